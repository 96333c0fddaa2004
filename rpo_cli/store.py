"""The run directory: tables of immutable Parquet parts, resume by missing keys, rejects, locks, run.json.

A part is RUN/<table>/<group>/part-<hash of its keys>.parquet: the same rows make the same file, so a
second writer does no harm. Readers meet every key once and never a half-written file.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli import manifest
from rpo_cli.errors import RpoError, UsageError, nearest
from rpo_cli.files import Files, reading
from rpo_cli.installing import newer
from rpo_cli.locks import stage_lock
from rpo_cli.manifest import MANIFEST, Manifest
from rpo_cli.records import PART_VERSION, TABLES, Row
from rpo_cli.schema import complete, encode, from_table, key_of, schema_of, to_table

BYTES_PER_PART = 250_000_000  # of pictures: with its text a part stays below 256 MB
COMPACT = "compact-"


@dataclass(frozen=True)
class Part:
    """A finished file of a table. `name` is relative to the run directory."""

    name: str
    group: str
    bytes: int


@dataclass
class Store:
    """An open run directory (local path or fsspec URL).

    Tables are listed anew for every question, so rows of other processes are seen; keys are read once.
    """

    url: str
    files: Files
    _keys: dict[str, list[str]] = field(default_factory=dict)
    _replaced: dict[str, list[str]] = field(default_factory=dict)

    def parts(self, table: str) -> list[Part]:
        """Finished parts of a table by group and name, without those that a compacted part replaces."""
        found = self.files.find(table, ".parquet")
        replaced = {old for name in found for old in self._replaces(name)}
        parts = [
            Part(name, name.rpartition("/")[0].removeprefix(table).strip("/"), size)
            for name, size in found.items()
            if name not in replaced
        ]
        return sorted(parts, key=lambda part: (part.group, part.name))

    def _replaces(self, name: str) -> list[str]:
        folder, _, file = name.rpartition("/")
        if not file.startswith(COMPACT):
            return []
        if name not in self._replaced:
            listed = (self._open(name).schema_arrow.metadata or {}).get(b"rpo_replaces", b"[]")
            self._replaced[name] = [f"{folder}/{old}" for old in json.loads(listed)]
        return self._replaced[name]

    def _open(self, name: str) -> pq.ParquetFile:
        with reading(self.files.join(name)):
            file = pq.ParquetFile(self.files.source(name))
        version = (file.schema_arrow.metadata or {}).get(b"rpo_format", b"1")
        if int(version) > PART_VERSION:
            raise RpoError(f"{self.files.join(name)}: written by a newer rpo", newer())
        return file

    def part_keys(self, table: str, part: Part) -> list[str]:
        """The keys of one part, in the order of its rows."""
        if part.name not in self._keys:
            keys = self.part_table(table, part, [key_of(table)])
            self._keys[part.name] = keys.column(0).to_pylist()
        return self._keys[part.name]

    def keys(self, table: str) -> set[str]:
        """Every key of a table; reads key columns only."""
        return {key for part in self.parts(table) for key in self.part_keys(table, part)}

    def rejected(self, stage: str) -> set[str]:
        """Keys that a stage has rejected."""
        table = self.columns("rejects", ["key_of", "stage"])
        pairs = zip(table["key_of"].to_pylist(), table["stage"].to_pylist(), strict=True)
        return {key for key, name in pairs if name == stage}

    def counts(self, table: str) -> dict[str, int]:
        """group → rows, every key once."""
        return {
            group: len({key for part in members for key in self.part_keys(table, part)})
            for group, members in groupby(self.parts(table), key=lambda part: part.group)
        }

    def size(self, table: str) -> int:
        """Bytes of a table on disk."""
        return sum(part.bytes for part in self.parts(table))

    def scan(
        self, table: str, columns: Sequence[str] | None = None, *, group: str | None = None
    ) -> Iterator[pa.Table]:
        """One table per part (of one group, when given), every key at its first place only."""
        seen: set[str] = set()
        for part in self.parts(table):
            if group is None or part.group == group:
                yield self._fresh(table, part, columns, seen)

    def _fresh(self, table: str, part: Part, columns: Sequence[str] | None, seen: set[str]) -> pa.Table:
        """The rows of a part whose keys are not in `seen`, which then holds them."""
        keys = self.part_keys(table, part)
        fresh = [key not in seen for key in keys]
        seen.update(keys)
        data = self.part_table(table, part, columns)
        return data if all(fresh) else data.filter(pa.array(fresh))

    def part_table(self, table: str, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of one part, all unless told; those that an older part lacks are filled."""
        wanted = schema_of(TABLES[table]).names if columns is None else columns
        file = self._open(part.name)
        with reading(self.files.join(part.name)):
            present = [name for name in wanted if name in file.schema_arrow.names]
            return complete(TABLES[table], file.read(present, use_threads=False), wanted)

    def columns(self, table: str, columns: Sequence[str], *, group: str | None = None) -> pa.Table:
        """Light columns of all parts in one table; never ask for image columns here."""
        schema = pa.schema([schema_of(TABLES[table]).field(name) for name in columns])
        tables = (data.replace_schema_metadata() for data in self.scan(table, columns, group=group))
        return pa.concat_tables([pa.Table.from_batches([], schema), *tables])  # empty_table() loads pandas

    def fetch(self, table: str, keys: Collection[str]) -> Iterator[Row]:
        """Whole rows of the given keys, in part order, then row order; memory is bounded by a row group."""
        left = set(keys)
        for part in self.parts(table):
            places = [i for i, key in enumerate(self.part_keys(table, part)) if key in left]
            if places:
                left -= {self.part_keys(table, part)[i] for i in places}
                yield from self._rows_at(table, part, places)
            if not left:
                return

    def _rows_at(self, table: str, part: Part, places: list[int]) -> Iterator[Row]:
        file, start, wanted = self._open(part.name), 0, set(places)
        known = [name for name in schema_of(TABLES[table]).names if name in file.schema_arrow.names]
        for index in range(file.num_row_groups):
            count = file.metadata.row_group(index).num_rows
            inside = [i - start for i in range(start, start + count) if i in wanted]
            if inside:
                with reading(self.files.join(part.name)):
                    data = file.read_row_group(index, known, use_threads=False)
                    # slices copy nothing, so no column of pictures can overflow as with `take`
                    rows = from_table(TABLES[table], pa.concat_tables(data.slice(i, 1) for i in inside))
                yield from rows
            start += count

    def part_rows(self, table: str, part: Part) -> Iterator[Row]:
        """Every row of one part, in its order; memory is bounded by a row group."""
        return self._rows_at(table, part, list(range(len(self.part_keys(table, part)))))

    def commit(self, table: str, rows: Sequence[Row], *, group: str = "") -> None:
        """Write rows as immutable parts: sorted by key, each at most 256 MB.

        Raises:
            StorageError: a part could not be written; those before it are whole.
        """
        ordered = sorted({row.key: row for row in rows}.values(), key=lambda row: row.key)
        for chunk in _chunks(ordered):
            name = _place(table, group, f"part-{_hash(row.key for row in chunk)}.parquet")
            self.files.write(name, encode(to_table(TABLES[table], chunk)))

    def compact(self, table: str) -> int:
        """Join small parts of each group into larger ones; returns how many files were replaced.

        Nobody may write to the table meanwhile: hold its stage's lock.
        """
        self._sweep(table)
        replaced = 0
        for group, members in groupby(self.parts(table), key=lambda part: part.group):
            for parts in _bins(list(members)):
                self._join(table, group, parts)
                replaced += len(parts)
        return replaced

    def _join(self, table: str, group: str, parts: list[Part]) -> None:
        """A kill between the write and the deletes leaves both: readers skip what the new part lists."""
        seen: set[str] = set()
        data = pa.concat_tables([self._fresh(table, part, None, seen) for part in parts])
        old = [part.name.rpartition("/")[2] for part in parts]
        metadata = {**data.schema.metadata, b"rpo_replaces": json.dumps(old).encode()}
        target = _place(table, group, f"{COMPACT}{_hash(old)}.parquet")
        self.files.write(target, encode(data.replace_schema_metadata(metadata)))
        for part in parts:
            self.files.delete(part.name)

    def _sweep(self, table: str) -> None:
        """Delete what kills have left: files that a compacted part replaces, and temporary ones."""
        live = {part.name for part in self.parts(table)}
        for name in [*self.files.find(table, ".parquet"), *self.files.leftovers(table)]:
            if name not in live:
                self.files.delete(name)

    def prune(self, table: str, keep_groups: Collection[str]) -> None:
        """Delete every part whose group is not to be kept. Nobody may write to the table meanwhile."""
        self._sweep(table)  # first: what a pruned part replaces must not come back
        for part in self.parts(table):
            if part.group not in keep_groups:
                self.files.delete(part.name)

    def lock(self, stage: str, shard: tuple[int, int] | None = None) -> AbstractContextManager[None]:
        """The stage's lock. On an object store there is none: give each process its own shard."""
        if self.files.local is None:
            return nullcontext()
        return stage_lock(self.files.local / "logs", stage, shard)

    def path(self, *names: str) -> Path:
        """A place in a local run directory.

        Raises:
            UsageError: the run is on an object store.
        """
        if self.files.local is None:
            raise UsageError(
                f"{self.url}: this step needs a local run directory", "copy the run to a local disk for it"
            )
        return self.files.local.joinpath(*names)

    def read_manifest(self) -> Manifest:
        """run.json, or {} in a new run; see `manifest.read`."""
        return manifest.read(self.files)

    def write_manifest(self, entries: Manifest) -> None:
        """Replace run.json, in a run that nobody else works on."""
        manifest.write(self.files, entries)

    def update_manifest(self, change: Callable[[Manifest], Manifest]) -> tuple[Manifest, Manifest]:
        """Change run.json beside other commands; see `manifest.update`."""
        return manifest.update(self.files, change)


def open_store(path: str | Path, *, create: bool = False) -> Store:
    """Open a run directory; with `create` a new one is made at its first write.

    Raises:
        UsageError: there is no run (and `create` is False), or the path is a file.
    """
    files = Files.at(path)
    if files.local is not None and files.local.is_file():
        raise UsageError(f"{path}: is a file, not a run directory", "name a directory")
    if not create and not files.exists(MANIFEST):
        raise UsageError(f"{path}: no run here{_nearest_run(files.local)}", "rpo run DIR makes one")
    return Store(str(path), files)


def _nearest_run(local: Path | None) -> str:
    if local is None or not local.parent.is_dir():
        return ""
    return nearest(local.name, [file.parent.name for file in local.parent.glob(f"*/{MANIFEST}")])


def _place(table: str, group: str, file: str) -> str:
    return f"{table}/{group}/{file}" if group else f"{table}/{file}"


def _hash(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:20]


def _chunks(rows: list[Row]) -> Iterator[list[Row]]:
    chunk: list[Row] = []
    size = 0
    for row in rows:
        weight = len(row.image.bytes) if hasattr(row, "image") else 0
        if chunk and size + weight > BYTES_PER_PART:
            yield chunk
            chunk, size = [], 0
        chunk.append(row)
        size += weight
    if chunk:
        yield chunk


def _bins(parts: list[Part]) -> Iterator[list[Part]]:
    """Runs of small parts that fit one large part; a part alone is left as it is."""
    bin_: list[Part] = []
    for part in parts:
        if bin_ and sum(p.bytes for p in bin_) + part.bytes > BYTES_PER_PART:
            if len(bin_) > 1:
                yield bin_
            bin_ = []
        bin_.append(part)
    if len(bin_) > 1:
        yield bin_

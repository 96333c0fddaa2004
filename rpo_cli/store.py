"""The run directory: tables of immutable Parquet parts, resume by missing keys, rejects, locks, run.json.

A part is RUN/<table>/<group>/part-<least prompt_id>-<hash of its keys>.parquet: the same rows make the same
file, so a second writer does no harm, and names in order are prompts in order. Readers meet every key once
and never a half-written file.
"""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli import keysets, manifest, schema
from rpo_cli.errors import RpoError, UsageError, nearest
from rpo_cli.files import Files, is_gone, reading, stage_lock
from rpo_cli.installing import newer
from rpo_cli.keysets import Index, Keys, Mask, Packed
from rpo_cli.manifest import MANIFEST, Manifest
from rpo_cli.records import PART_VERSION, TABLES, Row
from rpo_cli.schema import Part, group_of, key_of, schema_of

BYTES_PER_PART = 250_000_000  # of pictures: with its text a part stays below 256 MB
LISTINGS = (False, False, False, True)  # of a table whose parts go while they are read; True: the last
FEW = 8  # small parts of a group that stay as they are when a stage ends
ROWS_AT_ONCE = 500  # rows that are objects at a time
ROWS_PER_BATCH = 50_000


@dataclass
class Store:
    """An open run directory (local path or fsspec URL).

    Tables are listed anew for every question, so rows of other processes are seen; keys are read once.
    """

    url: str
    files: Files
    _keys: dict[str, Packed] = field(default_factory=dict)
    _indices: dict[tuple[str, str | None], tuple[list[Part], Index]] = field(default_factory=dict)
    _replaced: dict[str, list[str]] = field(default_factory=dict)
    _listed: dict[str, list[Part]] | None = None

    @contextmanager
    def listing(self) -> Iterator[None]:
        """Within it a table is listed once: for a command that only looks, and asks often."""
        before, self._listed = self._listed, {}
        try:
            yield
        finally:
            self._listed = before

    def parts(self, table: str) -> list[Part]:
        """Finished parts of a table by group and name, without those that a compacted part replaces."""
        if self._listed is None:
            return self._parts(table)
        if table not in self._listed:
            self._listed[table] = self._parts(table)
        return self._listed[table]

    def _parts(self, table: str) -> list[Part]:
        found = self.files.find(table, ".parquet")
        replaced = {old for name in found for old in self._replaces(name)}
        parts = [
            Part(name, group_of(table, name), size) for name, size in found.items() if name not in replaced
        ]
        return sorted(parts, key=lambda part: (part.group, part.name))

    def _replaces(self, name: str) -> list[str]:
        folder, _, file = name.rpartition("/")
        if not schema.is_compacted(file):
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

    def part_keys(self, table: str, part: Part) -> Keys:
        """The keys of one part, in the order of its rows."""
        return Keys(self._packed(table, part))

    def _packed(self, table: str, part: Part) -> Packed:
        if part.name not in self._keys:
            file, name = self._open(part.name), key_of(table)
            with reading(self.files.join(part.name)):
                if name not in file.schema_arrow.names:
                    raise ValueError(f"no column {name}")
                found = file.read([name], use_threads=False)
                self._keys[part.name] = keysets.digests(found.column(0))
        return self._keys[part.name]

    def _index(self, table: str, group: str | None = None) -> tuple[list[Part], Index]:
        for last in LISTINGS:
            try:
                return self._indexed(table, group)
            except RpoError as error:
                if last or not is_gone(error):
                    raise
                self._forget(table)
        raise AssertionError

    def _indexed(self, table: str, group: str | None) -> tuple[list[Part], Index]:
        parts = [part for part in self.parts(table) if group in (None, part.group)]
        known = self._indices.get((table, group))
        if known is None or known[0] != parts:
            known = self._indices[table, group] = (parts, self._index_of(table, parts))
        return known

    def _index_of(self, table: str, parts: Sequence[Part]) -> Index:
        index = Index.of([self._packed(table, part) for part in parts])
        # the same bytes are held once
        self._keys |= zip((part.name for part in parts), index.each(), strict=True)
        return index

    def keys(self, table: str) -> Keys:
        """Every key of a table, each once, in the order of the parts; reads key columns only."""
        return self._index(table)[1].distinct

    def rejected(self, stage: str) -> Keys:
        """Keys that a stage has rejected."""
        table = self.columns("rejects", ["key_of", "stage"])
        mine = table.filter(keysets.is_equal(table["stage"], stage))
        return Keys.distinct(keysets.digests(mine["key_of"]))

    def counts(self, table: str) -> dict[str, int]:
        """group → rows, every key once."""
        parts, index = self._index(table)
        groups = groupby(range(len(parts)), key=lambda number: parts[number].group)
        return {group: index.count(list(numbers)) for group, numbers in groups}

    def size(self, table: str) -> int:
        """Bytes of a table on disk."""
        return sum(part.bytes for part in self.parts(table))

    def scan(
        self,
        table: str,
        columns: Sequence[str] | None = None,
        *,
        group: str | None = None,
        among: Keys | None = None,
    ) -> Iterator[pa.Table]:
        """One table per part with rows that are asked for, every key at its first place only.

        Args:
            group: of one group; None: of all.
            among: of these keys; None: of any.
        """
        for file, part, mask in self._opened(table, group, among):
            data = self._read(table, part, file, columns)
            yield data if mask is None else data.filter(keysets.as_array(mask))

    def _opened(
        self, table: str, group: str | None, among: Keys | None
    ) -> Iterator[tuple[pq.ParquetFile, Part, Mask | None]]:
        """Parts with rows that are asked for, and which rows.

        A part that is gone has been joined with others by a stage that ended: its rows are looked for in
        what is there now. One that is open stays readable on a local disk.
        """
        left = among
        for last in LISTINGS:
            parts, index = self._index(table, group)
            met = []
            for number, mask in index.kept(left):
                try:
                    file = self._open(parts[number].name)
                except RpoError as error:
                    if last or not is_gone(error):
                        raise
                    break
                yield file, parts[number], mask
                met.append(self._keys[parts[number].name])
            else:
                return
            left = (index.distinct if left is None else left).without(Keys.distinct(keysets.joined(met)))
            self._forget(table)

    def part_table(self, table: str, part: Part, columns: Sequence[str] | None = None) -> pa.Table:
        """Columns of one part, all unless told; those that an older part lacks are filled."""
        return self._read(table, part, self._open(part.name), columns)

    def _read(
        self, table: str, part: Part, file: pq.ParquetFile, columns: Sequence[str] | None
    ) -> pa.Table:
        wanted = schema_of(TABLES[table]).names if columns is None else columns
        with reading(self.files.join(part.name)):
            present = [name for name in wanted if name in file.schema_arrow.names]
            return schema.complete(TABLES[table], file.read(present, use_threads=False), wanted)

    def columns(
        self, table: str, columns: Sequence[str], *, group: str | None = None, among: Keys | None = None
    ) -> pa.Table:
        """Light columns of all parts in one table; never ask for image columns here."""
        found = self.scan(table, columns, group=group, among=among)
        return schema.together(table, columns, found)

    def tally(
        self, table: str, columns: Sequence[str], *, group: str | None = None, among: Keys | None = None
    ) -> Counter[tuple[Any, ...]]:
        """Values of columns that have few → how many rows have them."""
        return schema.tally(columns, self.batches(table, columns, group=group, among=among))

    def batches(
        self,
        table: str,
        columns: Sequence[str],
        *,
        group: str | None = None,
        among: Keys | None = None,
        rows: int = ROWS_PER_BATCH,
    ) -> Iterator[pa.Table]:
        """The same in tables of about so many rows; memory is bounded by one of them and a row group."""
        return schema.batched(table, columns, self.picked(table, columns, among, group=group), rows)

    def fetch(self, table: str, keys: Collection[str]) -> Iterator[Row]:
        """Whole rows of the given keys, in part order, then row order; memory is bounded by a row group."""
        for file, part, mask in self._opened(table, None, Keys.of(keys)):
            for data in self._groups(table, part, file, mask, None):
                yield from self._rows(table, part, data)

    def picked(
        self, table: str, columns: Sequence[str] | None, keys: Keys | None, *, group: str | None = None
    ) -> Iterator[pa.Table]:
        """Columns of rows, pictures too, in the order of `fetch`; memory is bounded by a row group."""
        for file, part, mask in self._opened(table, group, keys):
            yield from self._groups(table, part, file, mask, columns)

    def _groups(
        self, table: str, part: Part, file: pq.ParquetFile, mask: Mask | None, columns: Sequence[str] | None
    ) -> Iterator[pa.Table]:
        """Rows of a part, a table of each row group that has some."""
        start, wanted = 0, schema_of(TABLES[table]).names if columns is None else columns
        present = [name for name in wanted if name in file.schema_arrow.names]
        for index in range(file.num_row_groups):
            count = file.metadata.row_group(index).num_rows
            inside = None if mask is None else mask[start : start + count]
            start += count
            if inside is None or inside.any():
                with reading(self.files.join(part.name)):
                    data = file.read_row_group(index, present, use_threads=False)
                    data = schema.complete(TABLES[table], data, wanted)
                yield data if inside is None or inside.all() else schema.picked(data, inside)

    def _rows(self, table: str, part: Part, data: pa.Table) -> Iterator[Row]:
        for start in range(0, len(data), ROWS_AT_ONCE):
            with reading(self.files.join(part.name)):
                rows = schema.from_table(TABLES[table], data.slice(start, ROWS_AT_ONCE))
            yield from rows

    def part_rows(self, table: str, part: Part) -> Iterator[Row]:
        """Every row of one part, in its order; memory is bounded by a row group."""
        for data in self._groups(table, part, self._open(part.name), None, None):
            yield from self._rows(table, part, data)

    def commit(self, table: str, rows: Sequence[Row], *, group: str = "") -> list[str]:
        """Write rows as immutable parts: sorted by key, each at most 256 MB; returns their names.

        Raises:
            StorageError: a part could not be written; those before it are whole.
        """
        ordered = sorted({row.key: row for row in rows}.values(), key=lambda row: row.key)
        names = []
        for chunk in schema.chunks(ordered, BYTES_PER_PART):
            names.append(schema.part_name(table, group, chunk))
            self.files.write(names[-1], schema.encode(schema.to_table(TABLES[table], chunk)))
            self._forget(table)
        return names

    def replace(self, table: str, part: Part, rows: Sequence[Row]) -> None:
        """Write rows in the place of a part; a kill leaves both. Hold the lock of who writes the table."""
        if part.name not in self.commit(table, rows, group=part.group):
            self.files.delete(part.name)
            self._forget(table)

    def compact(self, table: str, *, groups: Collection[str] | None = None, least: int = 2) -> int:
        """Join small parts of each group into larger ones; returns how many files were replaced.

        Nobody may write to these groups meanwhile: hold the lock. Memory is bounded by a row group.

        Args:
            groups: None: all.
            least: small parts that a group must have; what is large already is left alone.
        """
        self._forget(table)
        self._sweep(table, groups)
        replaced = 0
        found = [part for part in self.parts(table) if groups is None or part.group in groups]
        for group, members in groupby(found, key=lambda part: part.group):
            small = [part for part in members if part.bytes < BYTES_PER_PART / 2]
            for parts in schema.bins(small, BYTES_PER_PART) if len(small) >= least else ():
                self._join(table, group, parts)
                replaced += len(parts)
        self._forget(table)
        return replaced

    def _join(self, table: str, group: str, parts: list[Part]) -> None:
        """A kill between the write and the deletes leaves both: readers skip what the new part lists."""
        old = [part.name.rpartition("/")[2] for part in parts]
        known = schema_of(TABLES[table])
        said = known.with_metadata({**known.metadata, b"rpo_replaces": json.dumps(old).encode()})
        target = schema.compacted_name(table, group, old)
        with self.files.writing(target) as file, schema.writer(file, said) as out:
            for data in schema.grouped(self._distinct(table, parts)):
                out.write_table(data.cast(said), row_group_size=len(data))
        for part in parts:
            self.files.delete(part.name)

    def _distinct(self, table: str, parts: Sequence[Part]) -> Iterator[pa.Table]:
        """The rows of some parts, every key at its first place only."""
        for number, mask in self._index_of(table, parts).kept():
            yield from self._groups(table, parts[number], self._open(parts[number].name), mask, None)

    def _sweep(self, table: str, groups: Collection[str] | None = None) -> None:
        """Delete what kills have left: files that a compacted part replaces, and temporary ones."""
        live = {part.name for part in self.parts(table)}
        for name in [*self.files.find(table, ".parquet"), *self.files.leftovers(table)]:
            if name not in live and (groups is None or group_of(table, name) in groups):
                self.files.delete(name)

    def prune(self, table: str, keep_groups: Collection[str]) -> None:
        """Delete every part whose group is not to be kept. Nobody may write to the table meanwhile."""
        self._forget(table)
        self._sweep(table)  # first: what a pruned part replaces must not come back
        for part in self.parts(table):
            if part.group not in keep_groups:
                self.files.delete(part.name)
        self._forget(table)

    def _forget(self, table: str) -> None:
        """The listing of a table that is another now."""
        if self._listed is not None:
            self._listed.pop(table, None)

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

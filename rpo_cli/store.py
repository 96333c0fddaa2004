"""The run directory: tables of immutable Parquet parts, resume by missing keys, rejects, locks, run.json.

A part is RUN/<table>/<group>/part-<hash of its keys>.parquet: the same rows make the same file, so a
second writer does no harm. Readers meet every key once and never a half-written file.
"""

import hashlib
import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rpo_cli.errors import RpoError, UsageError, nearest
from rpo_cli.locks import stage_lock
from rpo_cli.parts import Files
from rpo_cli.records import TABLES, Row
from rpo_cli.schema import from_table, schema_of, to_table

MANIFEST = "run.json"
ROWS_PER_GROUP = 100
BYTES_PER_PART = 256 * 2**20
COMPACT = "compact-"


@dataclass(frozen=True)
class Part:
    """A finished file of a table. `name` is relative to the run directory."""

    name: str
    group: str
    bytes: int


@dataclass
class Store:
    """An open run directory (local path or fsspec URL)."""

    url: str
    files: Files
    _keys: dict[str, list[str]] = field(default_factory=dict)

    def parts(self, table: str) -> list[Part]:
        """Finished parts of a table by name, without those that a compacted part replaces."""
        found = self.files.find(table, ".parquet")
        replaced = {
            f"{name.rpartition('/')[0]}/{old}"
            for name in found
            if name.rpartition("/")[2].startswith(COMPACT)
            for old in self._replaces(name)
        }
        return [
            Part(name, name.rpartition("/")[0].removeprefix(table).strip("/"), size)
            for name, size in found.items()
            if name not in replaced
        ]

    def _replaces(self, name: str) -> list[str]:
        metadata = self._open(name).schema_arrow.metadata or {}
        return list(json.loads(metadata.get(b"rpo_replaces", b"[]")))

    def _open(self, name: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self.files.open(name))
        except (pa.ArrowInvalid, OSError) as error:
            raise RpoError(
                f"{self.files.join(name)}: not a readable Parquet file: {error}",
                "delete this file and run the command again: it makes the missing rows",
            ) from error

    def _part_keys(self, table: str, part: Part) -> list[str]:
        if part.name not in self._keys:
            column = self._open(part.name).read([key_of(table)]).column(0)
            self._keys[part.name] = column.to_pylist()
        return self._keys[part.name]

    def keys(self, table: str) -> set[str]:
        """Every key of a table; reads key columns only."""
        return {key for part in self.parts(table) for key in self._part_keys(table, part)}

    def rejected(self, stage: str) -> set[str]:
        """Keys that a stage has rejected."""
        table = self.columns("rejects", ["key_of", "stage"])
        return set(table.filter(pc.field("stage") == stage)["key_of"].to_pylist())

    def counts(self, table: str) -> dict[str, int]:
        """group → rows, from the files' footers."""
        parts = self.parts(table)
        return {
            group: sum(self._open(part.name).metadata.num_rows for part in members)
            for group, members in groupby(parts, key=lambda part: part.group)
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
            if group is not None and part.group != group:
                continue
            keys = self._part_keys(table, part)
            fresh = [key not in seen for key in keys]
            seen.update(keys)
            data = self._read(table, part, columns)
            yield data if all(fresh) else data.filter(pa.array(fresh))

    def _read(self, table: str, part: Part, columns: Sequence[str] | None) -> pa.Table:
        file = self._open(part.name)
        schema = schema_of(TABLES[table])
        wanted = list(columns) if columns is not None else schema.names
        data = file.read([name for name in wanted if name in file.schema_arrow.names])
        for name in wanted:
            if name not in data.column_names:
                data = data.append_column(name, default_column(table, name, data.num_rows))
        return data.select(wanted)

    def columns(self, table: str, columns: Sequence[str], *, group: str | None = None) -> pa.Table:
        """Light columns of all parts in one table; never ask for image columns here."""
        schema = pa.schema([schema_of(TABLES[table]).field(name) for name in columns])
        tables = [data.cast(schema) for data in self.scan(table, columns, group=group)]
        return pa.concat_tables(tables) if tables else schema.empty_table()

    def fetch(self, table: str, keys: Collection[str]) -> Iterator[Row]:
        """Whole rows of the given keys, in part order, then row order; memory is bounded by a row group."""
        left = set(keys)
        for part in self.parts(table):
            places = [i for i, key in enumerate(self._part_keys(table, part)) if key in left]
            if places:
                left -= {self._part_keys(table, part)[i] for i in places}
                yield from self._rows_at(table, part, places)
            if not left:
                return

    def _rows_at(self, table: str, part: Part, places: list[int]) -> Iterator[Row]:
        file, start, wanted = self._open(part.name), 0, set(places)
        for index in range(file.num_row_groups):
            count = file.metadata.row_group(index).num_rows
            inside = [i - start for i in range(start, start + count) if i in wanted]
            if inside:
                # at most ROWS_PER_GROUP rows: far from the 2 GB at which `take` overflows
                yield from from_table(TABLES[table], file.read_row_group(index).take(pa.array(inside)))
            start += count

    def commit(self, table: str, rows: Sequence[Row], *, group: str = "") -> None:
        """Write rows as immutable parts: sorted by key, each at most 256 MB."""
        ordered = sorted({row.key: row for row in rows}.values(), key=lambda row: row.key)
        for chunk in _chunks(ordered):
            name = "/".join(filter(None, [table, group, f"part-{_hash(row.key for row in chunk)}.parquet"]))
            self.files.write(name, encode(to_table(TABLES[table], chunk)))

    def compact(self, table: str) -> int:
        """Join small parts of each group into larger ones; returns how many files were replaced.

        A kill between the write and the deletes leaves both: readers skip what the new part lists.
        """
        self._sweep(table)
        replaced = 0
        for group, members in groupby(self.parts(table), key=lambda part: part.group):
            for bin_ in _bins(list(members)):
                names = [part.name for part in bin_]
                data = pa.concat_tables(_unique(table, [self._read(table, part, None) for part in bin_]))
                old = json.dumps([name.rpartition("/")[2] for name in names])
                metadata = {**(data.schema.metadata or {}), b"rpo_replaces": old.encode()}
                stem = f"{COMPACT}{_hash(names)}.parquet"
                target = "/".join(filter(None, [table, group, stem]))
                self.files.write(target, encode(data.replace_schema_metadata(metadata)))
                for name in names:
                    self.files.delete(name)
                replaced += len(names)
        return replaced

    def _sweep(self, table: str) -> None:
        """Delete files that a compacted part already replaces (a kill came before their deletion)."""
        live = {part.name for part in self.parts(table)}
        for name in self.files.find(table, ".parquet"):
            if name not in live:
                self.files.delete(name)

    def prune(self, table: str, keep_groups: Collection[str]) -> None:
        """Delete every part whose group is not to be kept."""
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

    def read_manifest(self) -> dict[str, Any]:
        """run.json, or {} in a new run."""
        return dict(json.loads(self.files.read(MANIFEST))) if self.files.exists(MANIFEST) else {}

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
        if not (self.files.exists(MANIFEST) and self.files.read(MANIFEST).decode() == text + "\n"):
            self.files.write(MANIFEST, (text + "\n").encode())


def open_store(path: str | Path, *, create: bool = False) -> Store:
    """Open a run directory; with `create` a new one is made at its first write.

    Raises:
        UsageError: there is no run (and `create` is False), or the path is a file.
    """
    files = Files.at(path)
    if files.local is not None and files.local.is_file():
        raise UsageError(f"{path}: is a file, not a run directory", "name a directory")
    if not create and not files.exists(MANIFEST):
        raise UsageError(f"{path}: no run here{_siblings(files.local)}", "rpo run DIR makes one")
    return Store(str(path), files)


def _siblings(local: Path | None) -> str:
    if local is None or not local.parent.is_dir():
        return ""
    return nearest(local.name, [item.name for item in local.parent.iterdir() if item.is_dir()])


def key_of(table: str) -> str:
    """Name of a table's key column: the first field of its row."""
    return next(iter(TABLES[table].model_fields))


def default_column(table: str, name: str, rows: int) -> pa.Array:
    """A column that an older part lacks: the field's default, or null."""
    info = TABLES[table].model_fields[name]
    value = None if info.is_required() else info.get_default(call_default_factory=True)
    return pa.array([value] * rows, type=schema_of(TABLES[table]).field(name).type)


def encode(table: pa.Table) -> bytes:
    """Parquet bytes that depend on the rows only."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROWS_PER_GROUP, compression="zstd", write_statistics=False)
    return buffer.getvalue()


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


def _unique(table: str, tables: list[pa.Table]) -> Iterator[pa.Table]:
    seen: set[str] = set()
    for data in tables:
        keys = data.column(key_of(table)).to_pylist()
        yield data.filter(pa.array([key not in seen for key in keys]))
        seen.update(keys)

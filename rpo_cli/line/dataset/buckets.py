"""Rows of tables by the prompts they belong to, those of a bucket of prompts at a time.

A part holds rows of any prompts, so light columns are written once more, sorted; a run of usual size is one
bucket, which stays in memory.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc

from rpo_cli import keysets
from rpo_cli.config import PairSettings
from rpo_cli.stages.opponents import STRATEGIES
from rpo_cli.text import normalised

PER_BUCKET = 5_000  # candidates, some 6 kB each as objects
SMALL = 10  # times as many are one bucket
BYTES_AT_ONCE = 16_000_000  # of rows that are sorted, three times in memory
Homes = Mapping[str, str]  # prompt_id → another one in whose bucket it is


def letters(candidates: int, per_bucket: int = PER_BUCKET) -> int:
    """By how many letters of their prompt_id rows fall into buckets; 0: all are in one."""
    digits = 0
    while candidates > SMALL * per_bucket and candidates > per_bucket * 16**digits:
        digits += 1
    return digits


def expected(settings: PairSettings, counts: Mapping[str, int]) -> int:
    """How many candidates there will be, about: told from the tables alone, and no fewer in most runs."""
    found = counts.get("preferences", 0) if settings.labels != "none" else 0
    found += counts["edits"] if settings.strategy in ("edits", "all") else 0
    found += counts["prompts"] if settings.strategy in ("seeds", "all") else 0
    return found + (counts["images"] if settings.strategy in STRATEGIES else 0)


class Buckets:
    """Tables divided into buckets, each of the prompts whose ids begin alike; iterating gives their names.

    Rows keep their order within a bucket. Each table is one file of many batches, so that the number of
    buckets opens no more files.
    """

    def __init__(self, folder: Path | None, digits: int, homes: Homes) -> None:
        """`folder`: for the files, in a new one of its own; None: they are held in memory."""
        self._folder = None if folder is None else Path(mkdtemp(dir=folder))
        self._digits = digits
        self._moved, self._home = (keysets.texts(texts) for texts in (homes.keys(), homes.values()))
        self._places: dict[str, dict[str, list[int]]] = {}
        self._files: dict[str, ipc.RecordBatchFileReader] = {}

    def add(self, table: str, found: Iterable[pa.Table]) -> None:
        """Rows of a table, which has columns of one schema and a `prompt_id`."""
        places: dict[str, list[int]] = defaultdict(list)
        with _Sink(self._folder, table) as sink:
            for data in _gathered(found):
                for bucket, rows in self._divided(data):
                    places[bucket].append(sink.write(rows))
        self._places[table] = dict(places)
        if sink.file is not None:
            self._files[table] = sink.file

    def _divided(self, data: pa.Table) -> Iterator[tuple[str, pa.RecordBatch]]:
        starts = pc.utf8_slice_codeunits(self._at_home(data["prompt_id"]), 0, self._digits)
        order = pc.sort_indices(starts)
        (rows,) = data.take(order).combine_chunks().to_batches()
        runs = pc.run_end_encode(starts.take(order).combine_chunks())
        start = 0
        for bucket, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
            yield bucket, rows.slice(start, end - start)
            start = end

    def _at_home(self, prompts: pa.ChunkedArray) -> pa.ChunkedArray:
        if not len(self._moved):
            return prompts
        places = pc.index_in(prompts, value_set=self._moved)
        return pc.coalesce(self._home.take(places.combine_chunks()), prompts)

    def __iter__(self) -> Iterator[str]:
        """In order; one where there is no row at all."""
        yield from sorted({name for places in self._places.values() for name in places}) or [""]

    def table(self, bucket: str, table: str) -> pa.Table | None:
        """Rows of a table that are in a bucket; None: it has none."""
        places = self._places.get(table, {}).get(bucket)
        if not places:
            return None
        return pa.Table.from_batches([self._files[table].get_batch(place) for place in places])

    def tables(self, bucket: str, tables: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
        """Rows of some tables that are in a bucket, as objects; of all that were added unless named."""
        found = {name: self.table(bucket, name) for name in tables or self._places}
        return {name: [] if data is None else data.to_pylist() for name, data in found.items()}


class _Sink:
    """A file of batches, on disk or in memory, made with the first of them."""

    def __init__(self, folder: Path | None, name: str) -> None:
        self._path = None if folder is None else folder / f"{name}.arrow"
        self._out: ipc.RecordBatchFileWriter | None = None
        self._count = 0
        self.file: ipc.RecordBatchFileReader | None = None

    def write(self, rows: pa.RecordBatch) -> int:
        """Returns the number by which it is read."""
        if self._out is None:
            self._sink = pa.BufferOutputStream() if self._path is None else pa.OSFile(str(self._path), "wb")
            options = ipc.IpcWriteOptions(compression="lz4")
            self._out = ipc.new_file(self._sink, rows.schema, options=options)
        self._out.write_batch(rows)
        self._count += 1
        return self._count - 1

    def __enter__(self) -> "_Sink":
        return self

    def __exit__(self, *error: object) -> None:
        if self._out is not None:
            self._out.close()
            found = self._sink.getvalue() if self._path is None else pa.OSFile(str(self._path))
            self._sink.close()
            self.file = ipc.open_file(found)


def _gathered(found: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of some BYTES_AT_ONCE."""
    waiting: list[pa.Table] = []
    for data in found:
        waiting.append(data)
        if sum(table.nbytes for table in waiting) >= BYTES_AT_ONCE:
            yield pa.concat_tables(waiting)
            waiting = []
    if sum(map(len, waiting)):
        yield pa.concat_tables(waiting)


def homes_of(found: Iterable[pa.Table]) -> Homes:
    """Prompts that another one equals but for its spelling: they share the room of `max_pairs_per_prompt`.

    Args:
        found: tables with `prompt_id` and `prompt`. Some 0.2 kB a prompt are held.
    """
    first: dict[bytes, str] = {}
    alike: dict[bytes, set[str]] = {}
    for data in found:
        for key, text in set(zip(data["prompt_id"].to_pylist(), data["prompt"].to_pylist(), strict=True)):
            form = hashlib.blake2b(normalised(text).encode(), digest_size=16).digest()
            if first.setdefault(form, key) != key:
                alike.setdefault(form, {first[form]}).add(key)
    return {key: min(keys) for keys in alike.values() for key in keys if key != min(keys)}

"""How much the two pictures of a pair differ: measured where they lie, and kept between builds.

A comparison hangs on the bytes of two pictures alone, so that another threshold, strategy or reward needs
no new look at any picture.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rpo_cli.errors import CorruptImage
from rpo_cli.keysets import HALVES, digests, halves_of
from rpo_cli.line.dataset.rows import Pictures, on_all_cores, places_of
from rpo_cli.line.work.edit import Floors
from rpo_cli.pictures import decode, mean_absolute_difference, perceptual_hash, to_array
from rpo_cli.protocols import Observer
from rpo_cli.records import EDITED, HOLE, Comparison, template
from rpo_cli.schema import from_table
from rpo_cli.stages.candidates import Candidate, Difference
from rpo_cli.store import FEW, Store

VERSION = 1  # of what `measure` computes: raised where it gives another value
TABLE = "comparisons"
CHUNK = 1_000  # comparisons measured between two commits: a kill loses no more


@cache
def _key() -> Any:
    return template("comparison", VERSION, HOLE, HOLE)


@dataclass
class Comparisons:
    """What is known of pairs of pictures, and what is measured beside it, some pairs at a time.

    Attributes:
        expected: pairs that are to come; None: all come at once.
        floors: of the guidances that edits were made with.
    """

    store: Store
    observer: Observer
    expected: int | None
    floors: Floors
    _seen: int | None = None  # pairs so far; None: nothing was asked

    def of(
        self, pairs: Sequence[Candidate], pictures: Pictures, edits: Iterable[Mapping[str, Any]]
    ) -> list[Difference | None]:
        """One of each pair, None where a picture cannot be read.

        Args:
            edits: light rows with the guidances that each edit was made with, which have a floor each.
        """
        by = self.floors.by
        made = {row["edit_id"]: (row["guidance"], row["image_guidance"]) for row in edits} if by else {}
        return [
            replace(found, floor=by.get(made[pair.b.id]))
            if found is not None and pair.kind in EDITED and pair.b.id in made
            else found
            for pair, found in zip(pairs, self._compared(pairs, pictures), strict=True)
        ]

    @cached_property
    def _known(self) -> "Known":
        return Known.of(self.store)

    def _compared(self, pairs: Sequence[Candidate], pictures: Pictures) -> list[Difference | None]:
        """What is known of each pair, after measuring what is not.

        A picture that cannot be read is looked at again by every build, since its file may be mended.
        """
        keys = [_key()(pair.a.sha256, pair.b.sha256) for pair in pairs]
        known: dict[bytes, Difference | None] = dict(self._known.of_keys(keys))
        self._begin(len(keys), sum(key in known for key in keys))
        new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
        rows: list[Comparison] = []
        try:
            for pair, value in _measured(new.values(), pictures):
                key = _key()(pair.a.sha256, pair.b.sha256)
                known[key] = value
                self.observer.advance(int(value is not None), int(value is None))
                if value is not None:
                    rows.append(_row(key, pair, value))
                if len(rows) == CHUNK:
                    self.store.commit(TABLE, rows)
                    rows = []
        finally:
            if rows:
                self.store.commit(TABLE, rows)
        return [known[key] for key in keys]

    def _begin(self, pairs: int, known: int) -> None:
        if self._seen is None:
            self.observer.start("build-pairs", pairs if self.expected is None else self.expected, known)
        else:
            self.observer.advance(known, 0)
        self._seen = (self._seen or 0) + pairs

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._seen is not None:
            fewer = (self.expected or 0) - self._seen
            if error is None and fewer > 0:
                self.observer.advance(fewer, 0)  # nothing is left to do
            self.observer.finish()
        if error is None:
            self.store.compact(TABLE, least=FEW)


@dataclass(frozen=True)
class Known:
    """Comparisons by key, 32 bytes each: sorted once, so that some keys are found without a look at all."""

    keys: NDArray[np.void]
    change: NDArray[np.float64]
    distance: NDArray[np.int64]

    @classmethod
    def of(cls, store: Store) -> "Known":
        found = [
            (halves_of(digests(data["comparison_id"])), *_numbers(data))
            for data in store.batches(TABLE, ["comparison_id", "change", "hash_distance"])
        ]
        empty = np.zeros(0, HALVES), np.zeros(0, np.float64), np.zeros(0, np.int64)
        keys, change, distance = (np.concatenate(column) for column in zip(empty, *found, strict=True))
        order = np.argsort(keys["high"], kind="stable")
        return cls(keys[order], change[order], distance[order])

    def of_keys(self, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Difference]]:
        """Those of some keys that are known."""
        wanted = np.frombuffer(b"".join(keys), HALVES)
        places = np.searchsorted(self.keys["high"], wanted["high"])
        inside = np.flatnonzero(places < len(self.keys))
        found = inside[self.keys[places[inside]] == wanted[inside]]
        for number, place in zip(found.tolist(), places[found].tolist(), strict=True):
            yield keys[number], Difference(float(self.change[place]), int(self.distance[place]))


def _numbers(data: pa.Table) -> tuple[NDArray[Any], NDArray[Any]]:
    """Change and distance of rows, which have both."""
    return _plain(data["change"], np.float64), _plain(data["hash_distance"], np.int64)


def _plain(column: pa.ChunkedArray, kind: type[np.number[Any]]) -> NDArray[Any]:
    """A column of 8 bytes without nulls; its `to_numpy` would import pandas."""
    chunks = (
        np.frombuffer(chunk.buffers()[1] or b"", kind)[chunk.offset :][: len(chunk)]
        for chunk in column.chunks
    )
    return np.concatenate([np.zeros(0, kind), *chunks])


def _measured(
    pairs: Iterable[Candidate], pictures: Pictures
) -> Iterator[tuple[Candidate, Difference | None]]:
    """In an order in which their pictures lie near each other."""
    for block in pictures.blocks(pairs):
        found = pictures.read(place for pair in block for place in places_of(pair))
        sides = ((pair.a.sha256, pair.b.sha256) for pair in block)
        yield from zip(block, measure(sides, found), strict=True)


def _row(key: bytes, pair: Candidate, value: Difference) -> Comparison:
    return Comparison(
        comparison_id=key.hex(),
        prompt_id=pair.a.prompt_id,
        a_sha256=pair.a.sha256,
        b_sha256=pair.b.sha256,
        change=value.change,
        hash_distance=value.hash_distance,
    )


def prune_comparisons(store: Store) -> int:
    """Drop what is known of pictures that are gone; returns how many rows. Hold the lock of build-pairs.

    A kill leaves rows twice, never fewer.
    """
    alive = pc.unique(
        pa.chunked_array(
            [
                chunk
                for table in ("images", "edits")
                for chunk in store.columns(table, ["sha256"])["sha256"].chunks
            ],
            pa.string(),
        )
    )
    dropped = 0
    for part in store.parts(TABLE):
        data = store.part_table(TABLE, part)
        sides = (pc.is_in(data[name], value_set=alive) for name in ("a_sha256", "b_sha256"))
        kept = data.filter(pc.and_(*sides))
        if len(kept) < len(data):
            for start in range(0, len(kept), CHUNK):
                store.commit(TABLE, from_table(Comparison, kept.slice(start, CHUNK)), group=part.group)
            store.replace(TABLE, part, [])
            dropped += len(data) - len(kept)
    return dropped


class Shelf(Protocol):
    def __getitem__(self, sha256: str) -> bytes:
        """The encoded picture with this hash."""


def measure(pairs: Iterable[tuple[str, str]], shelf: Shelf) -> Iterator[Difference | None]:
    """One value per pair of hashes, in order; None where a picture cannot be read.

    Two pictures a thread are in memory at a time: decoding and arithmetic leave Python's lock alone.
    """
    with on_all_cores() as pool:
        yield from pool.map(lambda pair: _difference(pair[0], pair[1], shelf), pairs)


def _difference(first: str, second: str, shelf: Shelf) -> Difference | None:
    try:
        a, b = (to_array(decode(shelf[key], key)) for key in (first, second))
    except CorruptImage:
        return None
    distance = (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()
    return Difference(mean_absolute_difference(a, b), distance)

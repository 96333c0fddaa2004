"""The two sides of an accepted pair as the dataset tells them, their pictures in reach by hash."""

import os
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rpo_cli.exchange.dataset import Side, to_row
from rpo_cli.keysets import Index, Keys, Mask, as_array, digests
from rpo_cli.pictures import decode, encode_png, has_encoded, is_whole_png
from rpo_cli.records import EDITED, Pair
from rpo_cli.schema import key_of
from rpo_cli.stages.candidates import Candidate
from rpo_cli.store import Store

IN_MEMORY = 128_000_000


class PictureShelf:
    """Encoded pictures, read from the store once in its own order and then from a scratch file in any.

    A table's parts hold many pictures each, so fetching pair by pair would read each part many times. Up
    to IN_MEMORY bytes the scratch file is memory; it is gone when the shelf is closed, or killed.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (closed by __exit__)
        self._where: dict[str, tuple[int, int]] = {}

    def add(self, pictures: Iterable[tuple[str, bytes]]) -> None:
        """(sha256, encoded bytes) each; a hash that is there already is passed over."""
        for key, data in pictures:
            if key not in self._where:
                self._where[key] = (self._file.seek(0, 2), len(data))
                self._file.write(data)

    def __getitem__(self, sha256: str) -> bytes:
        start, length = self._where[sha256]
        self._file.seek(start)
        return self._file.read(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


BYTES_PER_BLOCK = 256_000_000  # of the pictures of a block of pairs
BYTES_PER_PIXEL = 2  # of a photograph as PNG, about
Paired = TypeVar("Paired", Candidate, Pair)
Place = tuple[str, str]  # table and id of a picture


class Pictures:
    """Encoded pictures of pairs by hash, read where they lie, those of a block of pairs at a time.

    Tables lie in the order of prompts, so a block of neighbouring prompts reads a few row groups, and
    nothing is copied to another place.
    """

    def __init__(self, store: Store, digits: int) -> None:
        """`digits`: letters of their prompt_id that the pairs of a block have in common."""
        self.store, self.digits = store, digits

    def order(self, pair: Candidate | Pair) -> tuple[str, str]:
        """The block of a pair, and its id."""
        return _prompt(pair)[: self.digits], pair.pair_id

    def blocks(self, pairs: Iterable[Paired]) -> Iterator[list[Paired]]:
        """The pairs of each block in their order."""
        for _, members in groupby(sorted(pairs, key=self.order), key=lambda pair: self.order(pair)[0]):
            yield list(members)

    def read(self, places: Iterable[Place]) -> dict[str, bytes]:
        """Hash → encoded picture, of those at some places."""
        wanted: dict[str, set[str]] = {"images": set(), "edits": set()}
        for table, key in places:
            wanted[table].add(key)
        found: dict[str, bytes] = {}
        for table, keys in wanted.items():
            for data in self.store.picked(table, ["sha256", "image"], Keys.of(keys)):
                images = pc.struct_field(data["image"], "bytes")
                found.update(zip(data["sha256"].to_pylist(), images.to_pylist(), strict=True))
        return found


def block_digits(pairs: int, pixels: float) -> int:
    """By how many letters of a prompt_id pairs fall into blocks of at most BYTES_PER_BLOCK.

    Args:
        pixels: of a picture, on average.
    """
    size, digits = 2 * pairs * pixels * BYTES_PER_PIXEL, 0
    while size > BYTES_PER_BLOCK * 16**digits:
        digits += 1
    return digits


def _prompt(pair: Candidate | Pair) -> str:
    return pair.a.prompt_id if isinstance(pair, Candidate) else pair.prompt_id


def places_of(pair: Candidate | Pair) -> tuple[Place, Place]:
    """Of its two pictures, a's first."""
    if isinstance(pair, Candidate):
        kind, a, b = pair.kind, pair.a.id, pair.b.id
    else:
        kind, a, b = pair.pair_kind, pair.a_id, pair.b_id
    return ("images", a), ("edits" if kind in EDITED else "images", b)


# what the provenance of a picture and the export need beyond the key columns
MADE = ("seed", "batch_size", "settings", "environment")
MADE_EDIT = ("attempt", "guidance", "image_guidance", *MADE)
IMPORTED = ("kind", "source_id", "source_model")
IMPORT = '"import":'  # stands in the settings of imported rows only

Live = Mapping[str, Set[str]]
Sides = Mapping[
    str, Sequence[str]
]  # table of a plugin's stage → its columns that both sides of a pair tell
Rows = Sequence[Mapping[str, Any]]
SAID = ("critique_id", "prompt_id", "image_sha256", "text", "flaws", "settings")


def columns_told(sides: Sides) -> dict[str, tuple[str, ...]]:
    """Table → its columns that `tell` looks at."""
    return {
        "images": ("image_id", "prompt_id", *MADE, *IMPORTED),
        "edits": ("edit_id", "prompt_id", *MADE_EDIT, "purpose"),
        "critiques": SAID,
        **{table: (key_of(table), "prompt_id", "image_sha256", *names) for table, names in sides.items()},
    }


@dataclass(frozen=True)
class Told:
    """Light rows by id; critiques and what plugins' stages say by (prompt_id, picture)."""

    images: dict[str, Mapping[str, Any]]
    edits: dict[str, Mapping[str, Any]]
    critiques: dict[tuple[str, str], Mapping[str, Any]]
    more: dict[tuple[str, str], dict[str, str]]

    def row(self, place: Place) -> Mapping[str, Any]:
        """What is said of a picture where it lies."""
        table, key = place
        return (self.edits if table == "edits" else self.images)[key]


def tell(tables: Mapping[str, Rows], sides: Sides) -> Told:
    """What is said of the pictures of some prompts.

    Args:
        tables: table name → live rows with its `columns_told`.
    """
    critics = sorted(
        tables["critiques"], key=lambda row: (IMPORT in row["settings"], row["critique_id"]), reverse=True
    )
    return Told(
        images={row["image_id"]: row for row in tables["images"]},
        edits={row["edit_id"]: row for row in tables["edits"]},
        # the last one stays: a critic's words before a person's imported ones, then the lowest key
        critiques={(row["prompt_id"], row["image_sha256"]): row for row in critics},
        more=_of_pictures(tables, sides),
    )


def _of_pictures(tables: Mapping[str, Rows], sides: Sides) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for table, names in sides.items():
        key = key_of(table)
        for row in sorted(tables[table], key=lambda row: str(row[key]), reverse=True):
            place = found.setdefault((row["prompt_id"], row["image_sha256"]), {})
            place.update({name: row[name] for name in names})  # the lowest key has the word
    return found


def mean_pixels(store: Store, live: Live) -> float:
    """Of a live picture, on average; 0 without any."""
    pixels = count = 0
    for table in ("images", "edits"):
        found = store.columns(table, ["width", "height"], among=Keys.of(live[table]))
        pixels += pc.sum(pc.multiply(found["width"], found["height"])).as_py() or 0
        count += len(found)
    return pixels / count if count else 0.0


class Export:
    """Accepted pairs → rows of the dataset; all those of a prompt at once."""

    def __init__(
        self, encoding: "Encoding", accepted: Sequence[Pair], told: Told, models: Mapping[str, str]
    ) -> None:
        self.encoding, self.told, self.models = encoding, told, models
        self.pictures = encoding.pictures
        self.examples = Counter(pair.prompt for pair in accepted)

    def rows(self, pairs: Iterable[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each with its split, in the order of `pictures`."""
        for block in self.pictures.blocks(pairs):
            for pair, *encoded in self.encoding.of(block, self.told):
                sides = zip(places_of(pair), (pair.a_sha256, pair.b_sha256), encoded, strict=True)
                a, b = (self._side(pair, place, sha256, data) for place, sha256, data in sides)
                yield pair.split, to_row(pair, a, b, self.examples[pair.prompt])

    def _side(self, pair: Pair, place: Place, sha256: str, data: bytes) -> Side:
        (table, key), row = place, self.told.row(place)
        critique = self.told.critiques.get((pair.prompt_id, sha256))
        return Side(
            id=key,
            sha256=sha256,
            data=data,
            model=self._model(row, table),
            critique=critique["text"] if critique else None,
            flaws=_flaws(critique["flaws"]) if critique else None,
            made=_origin(row, table),
            more=self.told.more.get((pair.prompt_id, sha256), {}),
        )

    def _model(self, row: Mapping[str, Any], table: str) -> str:
        if row.get("kind") == "import":
            return row["source_model"] or ""
        return self.models.get("editor" if table == "edits" else "generator", "")


def _origin(row: Mapping[str, Any], table: str) -> dict[str, Any]:
    """Where a picture is from; an imported one has nobody's seed and batch."""
    if row.get("kind") == "import":
        return {name: row[name] for name in (*IMPORTED, "settings")}
    counter = {"purpose": "counter"} if row.get("purpose") == "counter" else {}
    return {name: row[name] for name in (MADE_EDIT if table == "edits" else MADE)} | counter


def _flaws(flaws: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(f"{flaw['aspect']}: {flaw['detail']}" for flaw in flaws)


THREADS = 16  # more wait for the memory
AHEAD = 2 * THREADS  # pairs, whose pictures are at work or wait
ROWS_AT_ONCE = 10  # of the build before
BEFORE = {"jpg_0", "jpg_1", "image_0_uid", "image_1_uid", "provenance"}  # its columns that are looked at
Encoded = tuple[Pair, bytes, bytes]  # a pair, and both pictures as the dataset has them


@contextmanager
def on_all_cores() -> Iterator[ThreadPoolExecutor]:
    """Threads for pictures: Pillow decodes and encodes without Python's lock."""
    pool = ThreadPoolExecutor(min(os.cpu_count() or 1, THREADS))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


class BuildBefore:
    """Pictures of the dataset that stands, as they were encoded for it, found by the ids of their rows.

    What is broken there is not there. Some 60 bytes a pair are held.
    """

    def __init__(self, files: Iterable[Path]) -> None:
        self._places: list[tuple[Path, int, int]] = []  # file, row group, side
        found = []
        for path in files:
            for group, side, keys in _ids(path):
                self._places.append((path, group, side))
                found.append(keys)
        self._index = Index.of(found)

    def pictures(self, wanted: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """(hash of the picture that was encoded, PNG) of those that are there.

        Args:
            wanted: id of a row → hash of its picture.
        """
        for number, mask in self._index.kept(Keys.of(wanted)) if wanted else ():
            for key, data, provenance in _encoded_before(*self._places[number], mask):
                if wanted[key] in (provenance or "") and is_whole_png(data or b""):
                    yield wanted[key], data


def _ids(path: Path) -> Iterator[tuple[int, int, pa.Array]]:
    """Row group, side and the ids of its rows."""
    try:
        with pq.ParquetFile(path) as file:
            whole = set(file.schema_arrow.names) >= BEFORE
            for group in range(file.num_row_groups if whole else 0):
                ids = file.read_row_group(
                    group, [f"image_{side}_uid" for side in (0, 1)], use_threads=False
                )
                yield from ((group, side, digests(ids[side])) for side in (0, 1))
    except (OSError, ValueError, pa.ArrowException):
        return


def _encoded_before(
    path: Path, group: int, side: int, mask: Mask | None
) -> Iterator[tuple[str, bytes, str]]:
    """Id, PNG and provenance of some rows of a row group, a few in memory at a time."""
    columns, start = [f"image_{side}_uid", f"jpg_{side}", "provenance"], 0
    try:
        with pq.ParquetFile(path) as file:
            for rows in file.iter_batches(ROWS_AT_ONCE, [group], columns, use_threads=False):
                inside = None if mask is None else as_array(mask[start : start + len(rows)])
                start += len(rows)
                found = rows if inside is None else rows.filter(inside)
                yield from zip(*(found[name].to_pylist() for name in columns), strict=True)
    except (OSError, pa.ArrowException):
        return


@dataclass
class Encoding:
    """Pictures as the dataset has them: RGB PNG without metadata, all by one encoder.

    A picture that this encoder has written when it was drawn is taken as it lies, one of the build before
    from there. The others are decoded and encoded, each once a block, a few ahead of the one that is asked.

    Attributes:
        before: the dataset that stands, where this encoder has made it.
        others: pictures that did not lie as this encoder writes them.
    """

    pictures: Pictures
    before: BuildBefore | None
    pool: ThreadPoolExecutor
    others: int = 0

    def of(self, block: Sequence[Pair], told: Told) -> Iterator[Encoded]:
        """The pairs of a block in their order."""
        places = {
            key: place for pair in block for key, place in zip(_hashes(pair), places_of(pair), strict=True)
        }
        drawn = {key for key, place in places.items() if has_encoded(told.row(place)["environment"])}
        others = {place[1]: key for key, place in places.items() if key not in drawn}
        done = {} if self.before is None else dict(self.before.pictures(others))
        stored = self.pictures.read(place for key, place in places.items() if key not in done)
        done |= {key: stored.pop(key) for key in drawn if is_whole_png(stored[key])}
        self.others += len(places) - len(drawn)
        yield from self._ahead(block, done, stored, {key: place[1] for key, place in places.items()})

    def _ahead(
        self,
        block: Sequence[Pair],
        done: dict[str, bytes],
        stored: dict[str, bytes],
        ids: Mapping[str, str],
    ) -> Iterator[Encoded]:
        """As `of`; what is `done` or `stored` goes with its last pair."""
        left = Counter(key for pair in block for key in _hashes(pair))
        coming: dict[str, Future[bytes]] = {}
        waiting: deque[Pair] = deque()

        def first() -> Encoded:
            pair = waiting.popleft()
            a, b = (done[key] if key in done else coming[key].result() for key in _hashes(pair))
            left.subtract(_hashes(pair))
            for key in _hashes(pair):
                if not left[key]:
                    (done if key in done else coming).pop(key)
            return pair, a, b

        for pair in block:
            for key in _hashes(pair):
                if key not in done and key not in coming:
                    coming[key] = self.pool.submit(_encoded, stored.pop(key), ids[key])
            waiting.append(pair)
            if len(waiting) > AHEAD:
                yield first()
        while waiting:
            yield first()


def _hashes(pair: Pair) -> tuple[str, str]:
    return pair.a_sha256, pair.b_sha256


def _encoded(data: bytes, where: str) -> bytes:
    return encode_png(decode(data, where))

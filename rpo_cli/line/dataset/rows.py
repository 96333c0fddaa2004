"""The two sides of an accepted pair as the dataset tells them, their pictures in reach by hash."""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import Any, Self, TypeVar

import pyarrow.compute as pc

from rpo_cli.exchange.dataset import Side, to_row
from rpo_cli.keysets import Keys
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

    def blocks(self, pairs: Iterable[Paired]) -> Iterator[tuple[list[Paired], dict[str, bytes]]]:
        """The pairs of each block in their order, and their pictures."""
        for _, members in groupby(sorted(pairs, key=self.order), key=lambda pair: self.order(pair)[0]):
            block = list(members)
            yield block, self.read(block)

    def read(self, pairs: Iterable[Candidate | Pair]) -> dict[str, bytes]:
        """Hash → encoded picture, of both sides of each pair."""
        wanted: dict[str, set[str]] = {"images": set(), "edits": set()}
        for pair in pairs:
            for table, key in _pictures(pair):
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


def _pictures(pair: Candidate | Pair) -> tuple[tuple[str, str], tuple[str, str]]:
    """Table and id of both."""
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
        self, pictures: Pictures, accepted: Sequence[Pair], told: Told, models: Mapping[str, str]
    ) -> None:
        self.pictures, self.told, self.models = pictures, told, models
        self.examples = Counter(pair.prompt for pair in accepted)

    def rows(self, pairs: Iterable[Pair]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each with its split, in the order of `pictures`."""
        for block, found in self.pictures.blocks(pairs):
            yield from ((pair.split, self._row(pair, found)) for pair in block)

    def _row(self, pair: Pair, found: Mapping[str, bytes]) -> dict[str, Any]:
        kind = "edits" if pair.pair_kind in EDITED else "images"
        a = self._side(pair, pair.a_id, found[pair.a_sha256], pair.a_sha256, "images")
        b = self._side(pair, pair.b_id, found[pair.b_sha256], pair.b_sha256, kind)
        return to_row(pair, a, b, self.examples[pair.prompt])

    def _side(self, pair: Pair, key: str, data: bytes, sha256: str, table: str) -> Side:
        row = (self.told.edits if table == "edits" else self.told.images)[key]
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

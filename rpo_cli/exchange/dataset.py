"""Accepted pairs → RUN/dataset: Parquet that public Diffusion-DPO trainers read unmodified."""

import hashlib
import json
import os
import shutil
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli.files import create, draft_of, make_folder, sync, write_whole
from rpo_cli.records import EDITED, Pair, canonical_json
from rpo_cli.schema import array_of

# of the pair as it was: kept where this run has no scores of its own
SCORED = ("agreement", "dispersion")
KEPT = ("instruction", "edit_strength", "tries", "reversed")


def with_rich(row: dict[str, Any], pair: Pair, b_stands: int) -> dict[str, Any]:
    """A row of the dataset with what its pair came with, where the run says nothing of its own.

    Args:
        b_stands: the side, 0 or 1, that side b of the pair stands on.
    """
    assert pair.rich is not None
    rich = json.loads(pair.rich)
    places = {"a": 1 - b_stands, "b": b_stands}
    told = dict(row)
    for letter, n in places.items():
        for name in ("critique", "flaws"):
            told[f"{name}_{n}"] = _first(row[f"{name}_{n}"], rich.get(f"{name}_{letter}"))
        if not pair.rewards_a:
            told[f"rewards_{n}"] = rich.get(f"rewards_{letter}") or {}
    told |= {name: rich[name] for name in KEPT if name in rich}
    if not pair.rewards_a:
        told |= {name: rich[name] for name in SCORED if name in rich}
        same = rich.get("winner") == pair.winner
        told["margin"] = (rich.get("margin", 0.0) if same else -rich.get("margin", 0.0)) or 0.0
    if "edited" in rich:
        told["edited"] = places[rich["edited"]]
    said = rich.get("human_label")
    told["human_label"] = _first(row["human_label"], str(places[said]) if said in places else said)
    before = {"imported": {**rich.get("provenance", {}), "pair_kind": rich.get("pair_kind")}}
    told["provenance"] = canonical_json({**json.loads(row["provenance"]), **before})
    return told


def _first(own: Any, theirs: Any) -> Any:
    return theirs if own is None else own


class PairNumbers:
    """What columns and card tell of all pairs, counted one after the other: 8 bytes a number.

    Attributes:
        counts: (verdict, kind, reason) → pairs.
        widths: reason → |margin| of each accepted pair.
        scores: reward → of the winners and of the losers of accepted pairs that have one.
        rewards: whose scores accepted pairs came with.
        shares: whether an accepted pair came with judgements that are not of one mind.
    """

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.widths: dict[str, array[float]] = defaultdict(lambda: array("d"))
        self.scores: dict[str, tuple[array[float], array[float]]] = defaultdict(
            lambda: (array("d"), array("d"))
        )
        self.rewards: set[str] = set()
        self.shares = False
        self.add(pairs)

    def add(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            self.counts[pair.verdict, pair.pair_kind, pair.reason] += 1
            if pair.verdict == "accepted":
                self._accept(pair)

    def _accept(self, pair: Pair) -> None:
        self.widths[pair.reason].append(abs(pair.margin))
        sides = (pair.rewards_b, pair.rewards_a)
        for place, scores in enumerate(sides if pair.winner == "b" else sides[::-1]):
            for reward, score in scores.items():
                self.scores[reward][place].append(score)
        self.rewards |= _came_with(pair)
        self.shares |= pair.share not in (None, 0.0, 1.0)


def _came_with(pair: Pair) -> set[str]:
    """Names of the rewards whose scores a pair of this run has only from a dataset."""
    if pair.rich is None or pair.rewards_a:
        return set()
    rich = json.loads(pair.rich)
    return set(rich.get("rewards_a") or {}) | set(rich.get("rewards_b") or {})


ROWS_PER_GROUP = 100
BYTES_PER_FILE = 256_000_000
PICK_A_PIC = 18  # columns of Pick-a-Pic v2, the first ones of our schema
SPLITS = ("train", "validation")
CARD, DRAFT = "README.md", ".draft-"


@dataclass(frozen=True)
class Side:
    """One picture of a pair, as it is exported.

    Attributes:
        data: an RGB PNG, like that of the other side.
        model: what made it, for `model_0/1`.
        critique: what the critic said of this picture; None where it said nothing.
        flaws: "aspect: detail" each; None without a critique.
        made: where it came from (settings, seed, environment), for `provenance`.
        more: what stages of plugins say of the picture, by column.
    """

    id: str
    sha256: str
    data: bytes
    model: str
    critique: str | None
    flaws: tuple[str, ...] | None
    made: Mapping[str, Any]
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitFiles:
    """The files of one split: all match `pattern`, and no other file of the folder does."""

    split: str
    pattern: str
    files: tuple[str, ...]
    rows: int
    bytes: int


def schema(rewards: Sequence[str], *, shares: bool = False, sides: Sequence[str] = ()) -> pa.Schema:
    """Columns and their exact types.

    Args:
        rewards: become the fields of `rewards_0/1`, if there are any.
        shares: a pair came with judgements, whose share for the first picture is told.
        sides: texts that stages of plugins have of both pictures, each `name_0` and `name_1`.
    """
    scores = pa.struct([(name, pa.float64()) for name in rewards])
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    pick_a_pic = [
        *[("jpg_0", pa.binary()), ("jpg_1", pa.binary())],
        *[
            ("label_0", number),
            ("label_1", number),
            ("has_label", pa.bool_()),
            ("are_different", pa.bool_()),
        ],
        *[("caption", text), ("image_0_uid", text), ("image_1_uid", text), ("best_image_uid", text)],
        *[("image_0_url", text), ("image_1_url", text), ("model_0", text), ("model_1", text)],
        *[("ranking_id", whole), ("user_id", whole), ("num_example_per_prompt", whole)],
        ("created_at", pa.timestamp("ns")),
    ]
    rich = [
        *[("pair_kind", text), ("edited", pa.int8()), ("instruction", text)],
        *[("critique_0", text), ("critique_1", text)],
        *[("flaws_0", pa.list_(text)), ("flaws_1", pa.list_(text))],
        # Parquet has no struct without a field
        *([("rewards_0", scores), ("rewards_1", scores)] if rewards else []),
        *[("margin", number), ("agreement", number), ("dispersion", number), ("edit_strength", number)],
        *[("reversed", pa.bool_()), ("tries", whole), ("human_label", text), ("provenance", text)],
        *([("share_0", number)] if shares else []),
        *[(f"{name}_{n}", text) for name in sides for n in (0, 1)],
    ]
    return pa.schema([*pick_a_pic, *rich])


def winner_side(pair_id: str) -> int:
    """The side, 0 or 1, that the winner of a pair stands on: a fair coin thrown by the pair's id.

    A fixed side, or the edit always on one, would be a shortcut to learn.
    """
    return hashlib.blake2b(pair_id.encode(), key=b"rpo: side of the winner", digest_size=1).digest()[0] & 1


def ranking_id(pair_id: str) -> int:
    """The number that the dataset knows a pair by, below 2^60."""
    return int(hashlib.sha256(pair_id.encode()).hexdigest()[:15], 16)


def to_row(pair: Pair, a: Side, b: Side, examples: int) -> dict[str, Any]:
    """One row of the dataset from an accepted pair.

    Args:
        examples: how many accepted pairs have this pair's prompt.
    """
    best = winner_side(pair.pair_id)
    b_stands = best if pair.winner == "b" else 1 - best
    sides = ((a, pair.rewards_a), (b, pair.rewards_b))
    row: dict[str, Any] = {
        "has_label": True,
        "are_different": True,
        "caption": pair.prompt,
        "ranking_id": ranking_id(pair.pair_id),
        "user_id": 0,
        "num_example_per_prompt": examples,
        "pair_kind": pair.pair_kind,
        "edited": b_stands if pair.pair_kind in EDITED else None,
        "instruction": pair.instruction,
        # winner minus loser; negative where a label that came with the pair contradicts the rewards
        "margin": (pair.margin if pair.winner == "b" else -pair.margin) or 0.0,
        "agreement": pair.agreement,
        "dispersion": pair.dispersion,
        "edit_strength": pair.change if pair.pair_kind in EDITED else None,
        "reversed": pair.reason == "reversed",
        "tries": pair.tries,
        "human_label": _human(pair, b_stands),
        "provenance": _provenance(pair, a, b),
    }
    for n in (0, 1):
        side, rewards = sides[n ^ (1 - b_stands)]
        row |= {
            f"jpg_{n}": side.data,
            f"label_{n}": float(n == best),
            f"image_{n}_uid": side.id,
            f"model_{n}": side.model,
            f"critique_{n}": side.critique,
            f"flaws_{n}": side.flaws,
            f"rewards_{n}": rewards,
            **{f"{name}_{n}": value for name, value in side.more.items()},
        }
    row["best_image_uid"] = row[f"image_{best}_uid"]
    if pair.share is not None:
        row["share_0"] = round(pair.share if b_stands else 1 - pair.share, 12)
    return row if pair.rich is None else with_rich(row, pair, b_stands)


def _human(pair: Pair, b_stands: int) -> str | None:
    """What people said of the pair: the side they prefer, "tie" or "reject"; None where none was asked.

    Reviewers come before the people whose judgement an imported pair came with.
    """
    said = pair.people or (pair.label if pair.pair_kind == "human" else None)
    if said is None:
        return None
    return {"a": str(1 - b_stands), "b": str(b_stands)}.get(said, said)


def _provenance(pair: Pair, a: Side, b: Side) -> str:
    gates = pair.model_dump(
        include={
            "pair_id",
            "prompt_id",
            "critique_id",
            "margin",
            "margins",
            "change",
            "hash_distance",
            "reason",
        }
    )
    made = {"a": a, "b": b}
    return canonical_json(
        {**gates, **{n: {"id": s.id, "sha256": s.sha256, **s.made} for n, s in made.items()}}
    )


class SplitWriter:
    """Writes the data files of one split as its rows come; a row group of pictures is in memory at a time.

    Files have temporary names until `close`, and are cut when they have grown to `bytes_per_file`.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        columns: pa.Schema,
        *,
        rows_per_group: int = ROWS_PER_GROUP,
        bytes_per_file: int = BYTES_PER_FILE,
    ) -> None:
        self._data, self._split, self._columns = folder / "data", split, columns
        self._per_group, self._per_file = rows_per_group, bytes_per_file
        self._group: list[dict[str, Any]] = []
        self._rows = 0
        self._drafts: list[Path] = []
        self._file: BinaryIO | None = None
        self._out = ExitStack()  # of the file that is open

    def add(self, row: dict[str, Any]) -> None:
        self._group.append(row)
        if len(self._group) == self._per_group:
            self._flush()

    def _flush(self) -> None:
        if self._file is not None and self._file.tell() >= self._per_file:
            self._end(self._file)
        if self._file is None:
            make_folder(self._data)
            self._drafts.append(draft_of(self._data / "pairs", DRAFT))
            self._file = self._out.enter_context(create(self._drafts[-1]))
            self._parquet = self._out.enter_context(
                pq.ParquetWriter(self._file, self._columns, compression="snappy", write_page_index=True)
            )
        columns = [array_of([row.get(of.name) for row in self._group], of.type) for of in self._columns]
        table = pa.table(columns, schema=self._columns)
        self._parquet.write_table(table, row_group_size=self._per_group)
        self._rows += len(self._group)
        self._group = []

    def _end(self, file: BinaryIO) -> None:
        self._parquet.close()
        file.flush()
        os.fsync(file.fileno())
        self._file = None
        self._out.close()

    def close(self) -> SplitFiles | None:
        """Give the files their names; None where no row came. Nothing counts until the card names them."""
        if self._group:
            self._flush()
        if self._file is not None:
            self._end(self._file)
        return _name(self._data, self._split, self._drafts, self._rows) if self._drafts else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._out.close()


def write_splits(
    folder: Path, columns: pa.Schema, rows: Iterable[tuple[str, dict[str, Any]]], **options: int
) -> list[SplitFiles]:
    """Write the data files of every split that has rows, in the order in which they come.

    Args:
        rows: each with its split.
        options: of `SplitWriter`.
    """
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(SplitWriter(folder, split, columns, **options)) for split in SPLITS
        }
        for split, row in rows:
            writers[split].add(row)
        return [files for writer in writers.values() if (files := writer.close()) is not None]


def _name(data: Path, split: str, drafts: Sequence[Path], rows: int) -> SplitFiles:
    """Give the drafts of a split their names: the content of the whole split, then n of N."""
    hashes = [_sha256(draft) for draft in drafts]
    stem = f"{split}-{hashlib.sha256(''.join(hashes).encode()).hexdigest()[:12]}"
    names = []
    for number, draft in enumerate(drafts):
        name = f"{stem}-{number:05d}-of-{len(drafts):05d}.parquet"
        draft.replace(data / name)
        names.append(f"data/{name}")
    sync(data)
    size = sum((data.parent / name).stat().st_size for name in names)
    return SplitFiles(split, f"data/{stem}-*.parquet", tuple(names), rows, size)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def commit(folder: Path, card: str, splits: Iterable[SplitFiles]) -> None:
    """Make the new build count: the card takes its place in one rename, then what it does not name goes."""
    write_whole(folder / CARD, card.encode(), prefix=DRAFT)
    sweep(folder, {name for split in splits for name in split.files})


def sweep(folder: Path, keep: Set[str]) -> None:
    """Remove data files of older builds and drafts of killed ones; nothing that we did not name."""
    for pattern in ("data/[tv]*-*-of-*.parquet", f"data/{DRAFT}*", f"{DRAFT}*"):
        for path in sorted(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            elif path.relative_to(folder).as_posix() not in keep:
                path.unlink()

"""The preference dataset as training sees it: which picture won, by content hash, and its caption.

Reads the Parquet files of a dataset folder (Pick-a-Pic columns, pictures as raw bytes). Pixels stay on
disk: the cache asks for the bytes it lacks.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli.errors import UsageError
from rpo_cli.train.data.singles import (
    Single,
    count_singles,
    holds_singles,
    read_singles,
    single_pictures,
    singles_fingerprint,
)
from rpo_cli.train.objectives.objective import Objective

COLUMNS = ("jpg_0", "jpg_1", "label_0", "caption")
BASE = ("jpg_0", "jpg_1", "caption")
HOW = {  # a column that only some objectives read → what fills it
    "dispersion": "`rpo build-pairs` writes it for prompts with two images and two rewards or more",
    **dict.fromkeys(
        ("margin", "agreement", "rewards_0"),
        "`rpo build-pairs RUN --reward NAME=MODEL` writes it; labels alone have none",
    ),
    "share_0": "a dataset has it where its pairs came with judgements of several, or with shares of votes",
}
UNREAD = frozenset({"human_label"})  # columns that no training takes
BATCH_ROWS = 64  # rows in memory at a time


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A labelled pair: SHA-256 of the encoded bytes of both sides, and the caption.

    The rest is None unless it was asked for: `dispersion` in [0, 1], 1 where the judges toss a coin;
    `margin` in standard deviations of the rewards; `agreement`, the share of rewards that agree; `share`,
    that of the judgements that prefer the winner.
    """

    winner: str
    loser: str
    caption: str
    dispersion: float | None = None
    margin: float | None = None
    agreement: float | None = None
    share: float | None = None

    @property
    def pictures(self) -> tuple[str, str]:
        """The best first."""
        return self.winner, self.loser


def read_pairs(dataset: Path, split: str, extra: Sequence[str] = ()) -> list[TrainingPair]:
    """All pairs of a split, in file order; [] when the split has no file.

    Args:
        extra: of dispersion, margin, agreement, share_0.

    Raises:
        UsageError: a missing column, a tie, equal pictures, or a label, number or picture that is not
            there, with file and row; or no reward has compared the pictures of any training pair.
    """
    found = [_pair(row, where, extra) for row, where in rows_of(dataset, split, (*COLUMNS, *extra))]
    for name in ("margin", "agreement"):
        if name in extra and split == "train" and found and not any(getattr(pair, name) for pair in found):
            raise UsageError(
                f"{dataset}: {name} is 0 in every pair: no reward has compared their pictures", HOW[name]
            )
    return found


def pictures(dataset: Path, wanted: Set[str]) -> Iterator[tuple[str, bytes, str]]:
    """(SHA-256, encoded bytes, file and row) of each wanted picture, once, in file order."""
    if holds_singles(dataset):
        yield from single_pictures(dataset, wanted)
        return
    missing = set(wanted)
    for split in ("train", "validation"):
        if not missing:
            return
        for row, where in rows_of(dataset, split, COLUMNS[:2]):
            for column in COLUMNS[:2]:
                digest = hashlib.sha256(row[column]).hexdigest()
                if digest in missing:
                    missing.remove(digest)
                    yield digest, row[column], f"{where}, {column}"


def split_files(dataset: Path, split: str) -> list[Path]:
    return sorted((dataset / "data").glob(f"{split}-*.parquet"))


def fingerprint(dataset: Path) -> str:
    """Content hash of the training and validation pairs, 32 hex digits.

    Of all columns but what reviewers said: no training reads it, and where their word is the label, it
    stands in the label.

    Raises:
        UsageError: there is no training split, or a file cannot be read.
    """
    _require_pairs(dataset)
    if holds_singles(dataset):
        return singles_fingerprint(dataset)
    digest = hashlib.sha256(b"pairs")
    for split in ("train", "validation"):
        for path in split_files(dataset, split):
            names = [name for name in _columns(path) if name not in UNREAD]
            for values, _ in _rows(path, tuple(names)):
                digest.update(split.encode())
                for name in names:
                    value = values[name]
                    known = value if isinstance(value, bytes) else repr(value).encode()
                    digest.update(f"{name} {len(known)} ".encode() + hashlib.sha256(known).digest())
    return digest.hexdigest()[:32]


def is_of_dataset(dataset: Path, known: str) -> bool:
    """Whether `known`, the data of a training, is this dataset now; earlier versions hashed its files."""
    return known in (fingerprint(dataset), _file_fingerprint(dataset))


def _require_pairs(dataset: Path) -> None:
    if not (holds_singles(dataset) or split_files(dataset, "train")):
        raise UsageError(
            f"{dataset}: no training pairs (no data/train-*.parquet)",
            "run `rpo build-pairs` first; if it dropped every pair, loosen its gates (see `rpo status`)",
        )


def _file_fingerprint(dataset: Path) -> str:
    if holds_singles(dataset):
        return singles_fingerprint(dataset)
    digest = hashlib.sha256()
    for split in ("train", "validation"):
        for path in split_files(dataset, split):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{split} {content}\n".encode())
    return digest.hexdigest()[:32]


def rows_of_split(dataset: Path, split: str = "train") -> int | None:
    """Rows of "train" or "validation", from the files' footers; None: there is no dataset yet."""
    if holds_singles(dataset):
        return count_singles(dataset, split)
    files = split_files(dataset, split)
    if not files and split != "train" and split_files(dataset, "train"):
        return 0
    return sum(pq.read_metadata(path).num_rows for path in files) if files else None


def rows_of(dataset: Path, split: str, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    """(row, file and row number) of a split, some columns only.

    Raises:
        UsageError: a column is missing, or the file cannot be read.
    """
    for path in split_files(dataset, split):
        yield from _rows(path, columns)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    try:
        file = pq.ParquetFile(path)
        if absent := [name for name in columns if name not in file.schema_arrow.names]:
            raise UsageError(
                f"{path}: no column {', '.join(absent)}",
                HOW.get(absent[0], "a preference dataset has Pick-a-Pic's columns"),
            )
        row = 0
        for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
            for values in batch.to_pylist():
                yield values, f"{path.name} row {row}"
                row += 1
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def _columns(path: Path) -> list[str]:
    try:
        return sorted(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path}: not a readable Parquet file: {error}", "build or download it again")


def _pair(row: dict[str, Any], where: str, extra: Sequence[str]) -> TrainingPair:
    for column in COLUMNS[:2]:
        if not isinstance(row[column], bytes) or not row[column]:
            raise UsageError(
                f"{where}: {column} holds no image bytes",
                "jpg_0 and jpg_1 are encoded bytes, not Image structs",
            )
    digests = [hashlib.sha256(row[column]).hexdigest() for column in COLUMNS[:2]]
    winner, loser = digests if _first_wins(row["label_0"], where) else digests[::-1]
    if winner == loser:
        raise UsageError(f"{where}: jpg_0 and jpg_1 are the same picture", "leave this pair out")
    numbers = {column: _number(row[column], column, where) for column in extra}
    if "share_0" in numbers:
        first = numbers.pop("share_0")
        numbers["share"] = first if winner == digests[0] else 1 - first
    return TrainingPair(winner, loser, row["caption"] or "", **numbers)


def _number(value: Any, column: str, where: str) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where}: {column} is {value!r}, no number", HOW[column])
    return float(value)


def _first_wins(label: Any, where: str) -> bool:
    if label not in (0, 1):  # the public scripts read 0.5 as "jpg_0 wins"
        what = "a tie" if label == 0.5 else "neither 0 nor 1"
        raise UsageError(
            f"{where}: label_0 is {label!r}, {what}",
            "leave undecided pairs out of the dataset: a preference loss would learn a side by chance",
        )
    return bool(label)


Scores = Mapping[str, float]


@dataclass(frozen=True)
class Ranking:
    """K pictures of one prompt by the SHA-256 of their bytes, the best first, and their gains in [0, 1]."""

    pictures: tuple[str, ...]
    caption: str
    gains: tuple[float, ...]


Item = TrainingPair | Ranking | Single


def read_rankings(dataset: Path, split: str, size: int) -> list[Ranking]:
    """Lists of `size` pictures; a prompt with n of them gives n // size lists, and no picture comes twice.

    Raises:
        UsageError: a column is missing, a picture has no rewards, or no prompt has `size` pictures.
    """
    prompts: dict[str, dict[str, Scores]] = defaultdict(dict)
    for row, where in rows_of(dataset, split, (*BASE, "rewards_0", "rewards_1")):
        for side in (0, 1):
            scores = {
                name: value for name, value in (row[f"rewards_{side}"] or {}).items() if value is not None
            }
            if not scores:
                raise UsageError(
                    f"{where}: rewards_{side} is empty", "rank pictures that a reward has scored"
                )
            prompts[row["caption"] or ""][hashlib.sha256(row[f"jpg_{side}"]).hexdigest()] = scores
    ranked = {caption: rank(found) for caption, found in sorted(prompts.items())}
    most = max(map(len, ranked.values()), default=0)
    if split == "train" and most < size:
        raise UsageError(
            f"{dataset}: no prompt has {size} pictures of different standing, the most is {most}",
            f"--set train.list_size={most}" if most > 1 else "use a method for pairs",
        )
    return [item for caption, found in ranked.items() for item in _lists(caption, found, size)]


def read_items(dataset: Path, split: str, objective: Objective) -> Sequence[Item]:
    """What an objective trains on: pairs with the columns it asks for, lists, or single pictures.

    Raises:
        UsageError: see `read_pairs`, `read_rankings` and `read_singles`.
    """
    if objective.singles:
        return read_singles(dataset, split)
    if objective.listwise:
        return read_rankings(dataset, split, objective.list_size)
    return read_pairs(dataset, split, objective.columns)


def rank(pictures: Mapping[str, Scores]) -> list[tuple[str, float]]:
    """(picture, gain) from best to worst; of pictures that nothing tells apart only one stays.

    The gain is the share of other pictures beaten, averaged over the rewards that all pictures have (a
    tie counts half). Equal gains are told apart by the mean score in standard deviations.
    """
    names = sorted(set.intersection(*(set(scores) for scores in pictures.values())))
    others = max(1, len(pictures) - 1)
    spread = {name: pstdev([scores[name] for scores in pictures.values()]) or 1.0 for name in names}

    def gain(scores: Scores) -> float:
        won = [
            (scores[name] > other[name]) + 0.5 * (scores[name] == other[name])
            for name in names
            for other in pictures.values()
        ]
        return (math.fsum(won) / max(1, len(names)) - 0.5) / others  # a picture ties with itself

    keys = {
        picture: (gain(scores), math.fsum(scores[name] / spread[name] for name in names))
        for picture, scores in sorted(pictures.items())
    }
    distinct = {key: picture for picture, key in reversed(keys.items())}
    return [(distinct[key], key[0]) for key in sorted(distinct, reverse=True)]


def _lists(caption: str, ranked: Sequence[tuple[str, float]], size: int) -> list[Ranking]:
    """Every list spans the whole range: list j takes ranks j, j + m, j + 2m, ..."""
    count = len(ranked) // size
    lists = [[ranked[j + count * i] for i in range(size)] for j in range(count)]
    return [
        Ranking(tuple(picture for picture, _ in found), caption, tuple(gain for _, gain in found))
        for found in lists
    ]

"""The preference dataset as training sees it: which picture won, by content hash, and its caption.

Reads the Parquet files of a dataset folder (Pick-a-Pic columns, pictures as raw bytes). Pixels stay on
disk: the cache asks for the bytes it lacks.
"""

import hashlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli.errors import UsageError

COLUMNS = ("jpg_0", "jpg_1", "label_0", "caption")
BATCH_ROWS = 64  # rows in memory at a time


@dataclass(frozen=True)
class Pair:
    """A labelled pair: SHA-256 of the encoded bytes of both sides, and the caption."""

    winner: str
    loser: str
    caption: str


def read_pairs(dataset: Path, split: str) -> list[Pair]:
    """All pairs of a split, in file order; [] when the split has no file.

    Raises:
        UsageError: a missing column, a tie, or a label or picture that is not there, with file and row.
    """
    return [_pair(row, where) for row, where in _rows(dataset, split, COLUMNS)]


def pictures(dataset: Path, wanted: Set[str]) -> Iterator[tuple[str, bytes, str]]:
    """(SHA-256, encoded bytes, file and row) of each wanted picture, once, in file order."""
    missing = set(wanted)
    for split in ("train", "validation"):
        if not missing:
            return
        for row, where in _rows(dataset, split, COLUMNS[:2]):
            for column in COLUMNS[:2]:
                digest = hashlib.sha256(row[column]).hexdigest()
                if digest in missing:
                    missing.remove(digest)
                    yield digest, row[column], f"{where}, {column}"


def split_files(dataset: Path, split: str) -> list[Path]:
    return sorted((dataset / "data").glob(f"{split}-*.parquet"))


def fingerprint(dataset: Path) -> str:
    """Content hash of the training and validation files, 32 hex digits.

    Raises:
        UsageError: there is no training split.
    """
    if not split_files(dataset, "train"):
        raise UsageError(
            f"{dataset}: no training pairs (no data/train-*.parquet)",
            "run `rpo build-pairs` first; if it dropped every pair, loosen its gates (see `rpo status`)",
        )
    digest = hashlib.sha256()
    for split in ("train", "validation"):
        for path in split_files(dataset, split):
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{split} {content}\n".encode())
    return digest.hexdigest()[:32]


def _rows(dataset: Path, split: str, columns: tuple[str, ...]) -> Iterator[tuple[dict[str, Any], str]]:
    for path in split_files(dataset, split):
        try:
            file = pq.ParquetFile(path)
            if absent := [name for name in columns if name not in file.schema_arrow.names]:
                raise UsageError(
                    f"{path}: no column {', '.join(absent)}",
                    "a preference dataset has Pick-a-Pic's columns",
                )
            row = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                for values in batch.to_pylist():
                    yield values, f"{path.name} row {row}"
                    row += 1
        except (pa.ArrowInvalid, OSError) as error:
            raise UsageError(
                f"{path}: not a readable Parquet file: {error}", "build or download it again"
            ) from error


def _pair(row: dict[str, Any], where: str) -> Pair:
    for column in COLUMNS[:2]:
        if not isinstance(row[column], bytes) or not row[column]:
            raise UsageError(
                f"{where}: {column} holds no image bytes",
                "jpg_0 and jpg_1 are encoded bytes, not Image structs",
            )
    digests = [hashlib.sha256(row[column]).hexdigest() for column in COLUMNS[:2]]
    winner, loser = digests if _first_wins(row["label_0"], where) else digests[::-1]
    return Pair(winner, loser, row["caption"] or "")


def _first_wins(label: Any, where: str) -> bool:
    if label not in (0, 1):  # the public scripts read 0.5 as "jpg_0 wins"
        what = "a tie" if label == 0.5 else "neither 0 nor 1"
        raise UsageError(
            f"{where}: label_0 is {label!r}, {what}",
            "leave undecided pairs out of the dataset: a preference loss would learn a side by chance",
        )
    return bool(label)

"""Pictures that were judged one by one: what Diffusion-KTO trains on, with any number of good and bad ones.

    DATASET/train/metadata.jsonl        file_name, caption, label (true or false)
    DATASET/validation/metadata.jsonl   the same; may be absent

As `rpo export RUN kto` writes them, and as `datasets` reads them as an image folder; or metadata.csv.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.text import lines, read_text

TABLES = ("metadata.jsonl", "metadata.csv")
COLUMNS = ("file_name", "caption", "label")
HINT = f"columns: {', '.join(COLUMNS)}"
LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class Single:
    """A picture by the SHA-256 of its encoded bytes, its caption, and whether it is a good one."""

    picture: str
    caption: str
    good: bool

    @property
    def pictures(self) -> tuple[str, ...]:
        return (self.picture,)


def holds_singles(dataset: Path) -> bool:
    """Whether a folder holds pictures that were judged one by one."""
    return _table(dataset, "train") is not None


def _table(dataset: Path, split: str) -> Path | None:
    return next((table for name in TABLES if (table := dataset / split / name).is_file()), None)


def read_singles(dataset: Path, split: str) -> list[Single]:
    """All pictures of a split, in file order; [] when the split has no table.

    Raises:
        UsageError: a missing column or file, a label that is neither, or a picture that is judged twice
            under one caption, with file and row.
    """
    found: list[Single] = []
    seen: dict[tuple[str, str], str] = {}
    for row, path, where in _rows(dataset, split):
        label = LABELS.get(row["label"].strip().lower())
        if label is None:
            raise UsageError(
                f"{where}: label is {row['label']!r}, neither 0 nor 1", "True or 1 for a good picture"
            )
        item = Single(hashlib.sha256(path.read_bytes()).hexdigest(), row["caption"], label)
        before = seen.setdefault((item.picture, item.caption), where)
        if before != where:
            raise UsageError(f"{where}: the same picture and caption as {before}", "leave one of them out")
        found.append(item)
    if split == "train" and len({item.good for item in found}) == 1:
        raise UsageError(
            f"{dataset}: every picture of the training split is {'good' if found[0].good else 'bad'}",
            "a method that judges needs both; --method sft learns from winners alone",
        )
    return found


def single_pictures(dataset: Path, wanted: Set[str]) -> Iterator[tuple[str, bytes, str]]:
    """(SHA-256, encoded bytes, file and row) of each wanted picture, once, in file order."""
    missing = set(wanted)
    for split in SPLITS:
        for _, path, where in _rows(dataset, split):
            data = path.read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            if digest in missing:
                missing.remove(digest)
                yield digest, data, where


def singles_fingerprint(dataset: Path) -> str:
    """Content hash of all that training reads, 32 hex digits."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for item in read_singles(dataset, split):
            digest.update(f"{split} {item.picture} {item.good} {item.caption!r}\n".encode())
    return digest.hexdigest()[:32]


def count_singles(dataset: Path, split: str) -> int:
    """Rows of "train" or "validation"."""
    return sum(1 for _ in _rows(dataset, split))


def _rows(dataset: Path, split: str) -> Iterator[tuple[dict[str, Any], Path, str]]:
    """(row, its picture's file, table and row number)."""
    table = _table(dataset, split)
    if table is None:
        return
    for number, row in enumerate(_lines(table) if table.suffix == ".jsonl" else _cells(table)):
        where = f"{split}/{table.name} row {number}"
        if any(row[name] is None for name in COLUMNS):
            raise UsageError(f"{where}: a value is missing", HINT)
        yield row, _inside(table.parent, row["file_name"], where), where


def _cells(table: Path) -> Iterator[dict[str, Any]]:
    """The rows of a CSV, read by the rule that imports read tables by."""
    from rpo_cli.delimited import read_table

    found = read_table(read_text(table), str(table), ".csv")
    _complete(table, found.header)
    yield from (row for _, row in found.mappings())


def _lines(table: Path) -> Iterator[dict[str, Any]]:
    for number, text in enumerate(lines(read_text(table))):
        if not text.strip():
            continue
        try:
            row: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{table}: line {number + 1}: {error}", "one JSON object a line") from error
        _complete(table, row if isinstance(row, dict) else ())
        if not isinstance(row["caption"], str) or not isinstance(row["file_name"], str):
            raise UsageError(f"{table}: line {number + 1}: file_name and caption are text", HINT)
        yield {**row, "label": None if row["label"] is None else str(row["label"])}


def _complete(table: Path, names: Collection[str]) -> None:
    if absent := [name for name in COLUMNS if name not in names]:
        raise UsageError(f"{table}: no column {', '.join(absent)}", HINT)


def _inside(folder: Path, name: str, where: str) -> Path:
    """A file of the dataset: a name in a table is data, and may not lead out of its folder."""
    root, path = folder.resolve(), (folder / name).resolve()
    if not (path.is_relative_to(root) and path.is_file()):
        raise UsageError(f"{where}: no file {name!r} in {folder}", "file_name is relative to its table")
    return path

"""What an exporter is given: the rows of a dataset that rpo has built, and what stands in them.

Every exporter writes into an empty folder and depends on the rows alone, so equal datasets give equal
bytes. Names of files are hashes: no text of a row is ever a path.
"""

import io
import json
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rpo_cli.exchange.card import built
from rpo_cli.exchange.raw_rows import json_line
from rpo_cli.pictures import sha256

SPLITS = ("train", "validation")
BATCH = 32  # rows in memory at once
line = json_line  # what every exporter writes JSON lines with


@dataclass(frozen=True)
class Built:
    """A dataset folder: its build and the data files that its card names."""

    folder: Path
    build: str
    files: tuple[str, ...]

    @classmethod
    def at(cls, folder: Path) -> "Built":
        """The build of the card; empty where there is none."""
        card = folder / "README.md"
        build, files = built(card.read_text(encoding="utf-8")) if card.is_file() else ("", ())
        return cls(folder, build, files)

    def splits(self) -> list[str]:
        """Splits that have pairs."""
        return [split for split in SPLITS if self._files(split)]

    def _files(self, split: str) -> list[Path]:
        return [self.folder / name for name in self.files if name.startswith(f"data/{split}-")]

    def rows(self, split: str, columns: Sequence[str] | None = None) -> Iterator[dict[str, Any]]:
        """The rows of a split, in the order of their files."""
        for path in self._files(split):
            for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=columns, use_threads=False):
                yield from batch.to_pylist()


@dataclass(frozen=True)
class ExportJob:
    """What to write and where; whatever of the dataset is not written as it is, the exporter counts here.

    Attributes:
        ask: a prompt → the question that a critic is asked about a picture of it.
        count: told one row further; draws progress.
        left_out: reason → rows that have no place in the format.
        refused: reason → rows that the format's readers would not give back as they are.
        changed: what a user should know of rows that are written → their number.
    """

    data: Built
    out: Path
    ask: Callable[[str], str]
    count: Callable[[], None]
    left_out: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        for row in self.data.rows(split):
            self.count()
            yield row


# an exporter returns what it has written: split → rows, and a text for the folder's README
Exported = tuple[dict[str, int], str]


def best(row: Mapping[str, Any]) -> tuple[int, int]:
    """The sides of winner and loser. A dataset of rpo holds no tie."""
    return (0, 1) if row["label_0"] == 1 else (1, 0)


def pair_id(row: Mapping[str, Any]) -> str:
    """32 hex digits."""
    return str(json.loads(row["provenance"])["pair_id"])


def rich_columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The rich columns of a pair as JSON, sides as `chosen` and `rejected`, without what is not known.

    `share`: of the judgements that a pair came with, those for the chosen picture.
    """
    first, second = best(row)
    said: dict[str, Any] = {
        name: row.get(name)
        for name in (
            *("pair_kind", "instruction", "margin", "agreement", "dispersion", "reversed", "tries"),
            "edit_strength",
        )
    }
    for side, n in (("chosen", first), ("rejected", second)):
        said |= {
            f"{name}_{side}": row.get(f"{name}_{n}") for name in ("model", "critique", "flaws", "rewards")
        }
        said[f"{side}_uid"] = row[f"image_{n}_uid"]
    if row.get("edited") is not None:
        said["edited"] = "chosen" if row["edited"] == first else "rejected"
    if row.get("human_label") is not None:
        sides = {str(first): "chosen", str(second): "rejected"}
        said["human_label"] = sides.get(row["human_label"], row["human_label"])
    if (share := row.get("share_0")) is not None:
        said["share"] = share if first == 0 else round(1 - share, 12)
    known = {name: _known(value) for name, value in said.items()}
    return {name: value for name, value in known.items() if value not in (None, "", {})}


def _known(value: Any) -> Any:
    """Rewards without those that did not score the picture."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def put(folder: Path, data: bytes, caption: str = "") -> str:
    """Write a picture under the hash of its bytes (and caption), once; returns its file name."""
    name = f"{sha256(data + caption.encode())[:32]}.png"
    place = folder / name
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return name


def member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A tar member without owner or time."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))

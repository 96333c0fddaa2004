"""Pairs of pictures to import, and what is read back of a run's tables. Imports no model's library."""

import io
import json
import shutil
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.bench.speed.sizes import ROOT

PROMPTS = ROOT / "prompts" / "shapes.txt"
GRAIN = 8  # pixels of a picture before it is enlarged, so that it is neither flat nor noise
Row = dict[str, Any]


def prompts(count: int) -> list[str]:
    """Different ones; the embedded models understand the first."""
    known = list(dict.fromkeys(PROMPTS.read_text(encoding="utf-8").splitlines()))
    more = (f"{known[place % len(known)]}, view {place}" for place in range(len(known), count))
    return [*known, *more][:count]


def picture(rng: np.random.Generator, side: int) -> bytes:
    """A PNG of soft colours with a grain, as large as a photo's."""
    soft = Image.fromarray(rng.integers(0, 256, (GRAIN, GRAIN, 3), dtype=np.uint8))
    pixels = np.asarray(soft.resize((side, side), Image.Resampling.BICUBIC), dtype=np.int16)
    grain = rng.integers(-6, 7, pixels.shape, dtype=np.int16)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def pairs(file: Path, count: int, side: int) -> None:
    """A Parquet file of labelled pairs, as Pick-a-Pic has them."""
    rng, captions = np.random.default_rng(0), prompts(count)
    rows = [
        {
            "caption": caption,
            "jpg_0": picture(rng, side),
            "jpg_1": picture(rng, side),
            "label_0": float(place % 2),
        }
        for place, caption in enumerate(captions)
    ]
    assert len(rows) == count
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), file)


def table(run: Path, name: str, *columns: str) -> list[Row]:
    """The rows of a run's table; [] where there is none."""
    files = sorted((run / name).rglob("*.parquet"))
    return [row for file in files for row in pq.read_table(file, columns=list(columns)).to_pylist()]


def images(run: Path) -> dict[str, bytes]:
    """SHA-256 → encoded picture."""
    return {row["sha256"]: row["image"]["bytes"] for row in table(run, "images", "sha256", "image")}


def brightness(data: bytes) -> float:
    return float(np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float64).mean())


def words(*said: str) -> float:
    """What texts are compared by."""
    return float(zlib.crc32("\n".join(said).encode()))


def wrote(file: Path, rows: Sequence[Row]) -> None:
    """What a plain script reads."""
    pq.write_table(pa.Table.from_pylist(list(rows)), file)


def latents(run: Path) -> list[float]:
    """Means of the latents in a run's cache, by picture."""
    from safetensors.numpy import load_file

    found: dict[str, float] = {}
    for file in sorted((run / "cache" / "latents").rglob("*.safetensors")):
        for name, value in load_file(file).items():
            if name.endswith(".mean"):
                found[name] = float(value.astype(np.float64).mean())
    return [found[name] for name in sorted(found)]


def metrics(training: Path) -> list[float]:
    """Losses, then the winners' errors, of every step."""
    lines = map(json.loads, (training / "metrics.jsonl").read_text().splitlines())
    steps = [line for line in lines if line["split"] == "train"]
    return [step[name] for name in ("loss", "winner_error") for step in steps]


def dataset(run: Path, split: str) -> int:
    """Rows of a split."""
    return sum(
        pq.read_metadata(file).num_rows for file in (run / "dataset/data").glob(f"{split}-*.parquet")
    )


def held_out(captions: Sequence[str]) -> str:
    """The share of which one of these prompts alone is held out, by the hash that decides it."""
    from rpo_cli.text import split_of

    for value in (place / 1000 for place in range(1, 1000)):
        if sum(split_of(caption, value) == "validation" for caption in captions) == 1:
            return f"{value:g}"
    raise ValueError(f"no share holds one of {len(captions)} prompts out")


def copied(source: Path, run: Path) -> None:
    """A run's folder, as another."""
    shutil.copytree(source, run)


def labels(file: Path) -> list[Row]:
    """Pictures of labelled pairs, the label as the one reward."""
    return [
        {"prompt": row["caption"], "image": row[f"jpg_{side}"], "label": abs(side - row["label_0"])}
        for row in pq.read_table(file).to_pylist()
        for side in (0, 1)
    ]

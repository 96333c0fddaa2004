"""Scored pictures to pairs: best and worst of a prompt, where rewards and pixels tell them apart."""

import argparse
import hashlib
import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

MARGIN, CHANGE = 0.5, (0.002, 0.5)  # standard deviations; mean difference of pixels


def spread(prompts: dict[str, list[dict]], reward: str) -> float:
    """Root of the mean variance between the pictures of one prompt."""
    return float(np.sqrt(np.mean([np.var([r[reward] for r in rows], ddof=1) for rows in prompts.values()])))


def change(first: bytes, second: bytes) -> float:
    sides = [
        np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32) for data in (first, second)
    ]
    return float(np.abs(sides[0] - sides[1]).mean() / 255)


def pair(rows: list[dict], sds: dict[str, float]) -> dict | None:
    """The pair of a prompt; None: nothing tells its best and worst apart."""
    rated = sorted(rows, key=lambda row: sum(row[name] / sd for name, sd in sds.items()))
    worst, best = rated[0], rated[-1]
    margins = [(best[name] - worst[name]) / sd for name, sd in sds.items()]
    margin = float(np.mean(margins))
    if margin < MARGIN or min(margins) <= 0:
        return None
    if not CHANGE[0] <= change(best["image"], worst["image"]) <= CHANGE[1]:
        return None
    named = [hashlib.sha256(row["image"]).hexdigest() for row in (best, worst)]
    return {
        "jpg_0": best["image"],
        "jpg_1": worst["image"],
        "label_0": 1.0,
        "label_1": 0.0,
        "caption": best["prompt"],
        "image_0_uid": named[0],
        "image_1_uid": named[1],
        "margin": margin,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tasks", type=Path, required=True, help="Parquet: prompt, image, a column a reward"
    )
    parser.add_argument("--out", type=Path, required=True, help="Parquet file of the pairs")
    told = parser.parse_args()
    table = pq.read_table(told.tasks)
    rewards = sorted(set(table.column_names) - {"prompt", "image"})
    prompts: dict[str, list[dict]] = {}
    for row in table.to_pylist():
        prompts.setdefault(row["prompt"], []).append(row)
    sds = {name: spread(prompts, name) for name in rewards}
    found = [made for rows in prompts.values() if (made := pair(rows, sds)) is not None]
    pq.write_table(pa.Table.from_pylist(found), told.out)
    numbers = [float(len(found)), *sorted(row["margin"] for row in found)]
    sys.stdout.write(json.dumps({"numbers": numbers}) + "\n")


if __name__ == "__main__":
    main()

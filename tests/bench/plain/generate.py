"""Prompts to pictures with a diffusers pipeline, in batches, a seeded generator a picture."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from diffusers import DiffusionPipeline

from tests.bench.plain import denoiser, report


def png(picture) -> bytes:
    """The file that is kept."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def brightness(picture) -> float:
    """What a picture is compared by."""
    return float(np.asarray(picture, np.float64).mean())


def load(model: Path, dtype: torch.dtype, device: str) -> DiffusionPipeline:
    pipe = DiffusionPipeline.from_pretrained(model, torch_dtype=dtype, **denoiser.absent(model)).to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    parser = report.options(__doc__)
    parser.add_argument("--tasks", type=Path, required=True, help="Parquet: prompt, seed")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True)
    told = parser.parse_args()
    tasks = pq.read_table(told.tasks).to_pylist()
    pipe = load(told.model, report.dtype(told.dtype), told.device)
    told.out.mkdir(parents=True, exist_ok=True)
    numbers, seconds = [], []
    for start in range(0, len(tasks), told.batch):
        chunk, began = tasks[start : start + told.batch], report.now(told.device)
        pictures = pipe(
            prompt=[task["prompt"] for task in chunk],
            num_inference_steps=told.steps,
            guidance_scale=told.guidance,
            generator=[torch.Generator("cpu").manual_seed(task["seed"]) for task in chunk],
        ).images
        for place, picture in enumerate(pictures, start):
            (told.out / f"{place}.png").write_bytes(png(picture))
            numbers.append(brightness(picture))
        seconds.append(report.now(told.device) - began)
    report.ended(numbers, seconds=seconds)


if __name__ == "__main__":
    main()

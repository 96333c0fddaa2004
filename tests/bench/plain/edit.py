"""Pictures edited by instruction with InstructPix2Pix, in batches, a seeded generator a picture."""

import io
from pathlib import Path

import pyarrow.parquet as pq
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from tests.bench.plain import report
from tests.bench.plain.generate import brightness, png


def main() -> None:
    parser = report.options(__doc__)
    parser.add_argument("--tasks", type=Path, required=True, help="Parquet: image, instruction, seed")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--guidance", type=float, required=True)
    parser.add_argument("--image-guidance", type=float, required=True)
    told = parser.parse_args()
    tasks = pq.read_table(told.tasks).to_pylist()
    loader = StableDiffusionInstructPix2PixPipeline
    pipe = loader.from_pretrained(told.model, torch_dtype=report.dtype(told.dtype)).to(told.device)
    pipe.set_progress_bar_config(disable=True)
    told.out.mkdir(parents=True, exist_ok=True)
    numbers = []
    for start in range(0, len(tasks), told.batch):
        chunk = tasks[start : start + told.batch]
        pictures = pipe(
            prompt=[task["instruction"] for task in chunk],
            image=[Image.open(io.BytesIO(task["image"])).convert("RGB") for task in chunk],
            num_inference_steps=told.steps,
            guidance_scale=told.guidance,
            image_guidance_scale=told.image_guidance,
            generator=[torch.Generator("cpu").manual_seed(task["seed"]) for task in chunk],
        ).images
        for place, picture in enumerate(pictures, start):
            (told.out / f"{place}.png").write_bytes(png(picture))
            numbers.append(brightness(picture))
    report.ended(numbers)


if __name__ == "__main__":
    main()

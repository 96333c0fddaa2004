"""The text-to-image model's own pictures as editing examples: sampled once, read by the oracle,
encoded, kept on disk.

`python -m rpo_cli.shapes.train generated --count 4000`. Each picture gives one triplet (see
`triplets`).
"""

from __future__ import annotations

import argparse
import pickle
import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from rpo_cli.shapes.grammar import CAPTION_VARIANTS, Scene, caption, sample_scene
from rpo_cli.shapes.latents import Latents, encode
from rpo_cli.shapes.oracle import read
from rpo_cli.shapes.render import draw
from rpo_cli.shapes.triplets import Triplet, generated_triplet

BATCH = 32
PER_FILE = 512
STEPS, GUIDANCE = (
    12,
    (1.5, 3.0),
)  # guidance is drawn between the two, so that flaws of many strengths are seen
EDITS_PER_PICTURE = 2


def load_generated(folder: Path) -> tuple[list[Triplet], Latents, Latents] | None:
    """(triplets, latents before, latents after) of everything written so far; None when there is
    nothing.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    triplets = [t for file in files for t in _load_triplets(file.with_suffix(".pickle"))]
    parts = [load_file(file) for file in files]
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    before, after = (Latents(joined[f"mean{i}"], joined[f"std{i}"]) for i in range(2))
    return triplets, before, after


def _load_triplets(file: Path) -> list[Triplet]:
    """Our own working file in the training folder, never a download."""
    found: list[Triplet] = pickle.loads(file.read_bytes())
    return found


def sample_pictures(pipeline: Any, scenes: list[Scene], rng: random.Random) -> list[Image.Image]:
    """One picture per scene, sampled cheaply."""
    prompts = [caption(scene, rng.randrange(CAPTION_VARIANTS)) for scene in scenes]
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    with torch.no_grad():
        made = pipeline(
            prompts,
            num_inference_steps=STEPS,
            guidance_scale=rng.uniform(*GUIDANCE),
            generator=generator,
            height=64,
            width=64,
        )
    pictures: list[Image.Image] = made.images
    return pictures


def make_file(pipeline: Any, folder: Path, number: int) -> int:
    """Sample, read, plan and encode one file of examples; its number of triplets."""
    rng = random.Random(77_000 + number)
    triplets: list[Triplet] = []
    pictures: list[Image.Image] = []
    for _ in range(PER_FILE // BATCH):
        scenes = [sample_scene(rng, "train", rng.choice((1, 2, 2))) for _ in range(BATCH)]
        for scene, picture in zip(scenes, sample_pictures(pipeline, scenes, rng), strict=True):
            reading = read(picture)
            for _ in range(EDITS_PER_PICTURE):
                triplet = generated_triplet(reading, scene, rng)
                if triplet is not None:
                    triplets.append(triplet)
                    pictures.append(picture)
    tensors: dict[str, torch.Tensor] = {}
    after = [draw(t.after, t.after_layout) for t in triplets]
    for place, images in enumerate((pictures, after)):
        mean, std = encode(pipeline.vae, images)
        tensors |= {f"mean{place}": mean, f"std{place}": std}
    file = folder / f"{number:04d}.safetensors"
    file.with_suffix(".pickle").write_bytes(pickle.dumps(triplets))
    save_file(tensors, file)
    return len(triplets)


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.train generated`."""
    from rpo_cli.shapes.export import assemble  # export builds on the trainers, which build on this

    parser = argparse.ArgumentParser(prog="train generated", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".train/generated"))
    parser.add_argument("--model", type=Path, default=Path(".train/text-to-image"))
    parser.add_argument("--vae", type=Path, default=Path(".train/vae"))
    parser.add_argument("--count", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    pipeline, _ = assemble("text-to-image", options.model, options.vae)
    pipeline.set_progress_bar_config(disable=True)
    for number in range(options.count // PER_FILE):
        if not (options.folder / f"{number:04d}.safetensors").is_file():
            make_file(pipeline, options.folder, number)

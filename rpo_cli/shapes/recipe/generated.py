"""Flawed pictures as editing examples: the text-to-image model's own and synthetic ones (`seen`), read
by the oracle, encoded, kept on disk.

`python -m rpo_cli.shapes.recipe.train generated --sort synthetic --files 4`. See `triplets`.
"""

from __future__ import annotations

import argparse
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from rpo_cli.shapes.grammar import SHAPES, UNKNOWN, Scene, sample_scene
from rpo_cli.shapes.oracle import read
from rpo_cli.shapes.recipe.draws import draw_edits
from rpo_cli.shapes.recipe.latents import encode
from rpo_cli.shapes.recipe.sampling import sample_pictures
from rpo_cli.shapes.recipe.triplets import Triplet, generated_triplet
from rpo_cli.shapes.render import draw

Examples = list[tuple[Triplet, Image.Image]]
BATCH = 32
PER_FILE = 512
SEEN_PER_FILE = 2000
EDITS_PER_PICTURE = 2


def wanted_near(before: Scene, rng: random.Random) -> Scene | None:
    """What a flawed picture may have been meant to show: unknown shapes named, then an edit or two."""
    names = (before.background, *(thing.colour for thing in before.things))
    if not 1 <= len(before.things) <= 2 or UNKNOWN in names:
        return None
    named = (
        replace(thing, shape=rng.choice(SHAPES)) if thing.shape == UNKNOWN else thing
        for thing in before.things
    )
    scene = replace(before, things=tuple(named))
    if len(set(scene.things)) < len(scene.things):
        return None
    _, change = draw_edits(scene, rng, rng.choice((1, 1, 2)))
    return change.scene


def synthetic_examples(rng: random.Random, pictures: Tensor) -> Examples:
    """Triplets of synthetically flawed pictures, uint8 (N, 64, 64, 3), one each where one can be told."""
    found: Examples = []
    for pixels in pictures:
        picture = Image.fromarray(pixels.numpy())
        reading = read(picture)
        wanted = wanted_near(reading.loose, rng)
        triplet = generated_triplet(reading, wanted, rng) if wanted else None
        if triplet is not None:
            found.append((triplet, picture))
    return found


def generated_examples(rng: random.Random, pipeline: Any, pictures: int) -> Examples:
    """Triplets of so many of the model's own pictures, in whole batches."""
    found: Examples = []
    for _ in range(pictures // BATCH):
        scenes = [sample_scene(rng, "train", rng.choice((1, 2, 2))) for _ in range(BATCH)]
        for scene, picture in zip(scenes, sample_pictures(pipeline, scenes, rng), strict=True):
            reading = read(picture)
            for _ in range(EDITS_PER_PICTURE):
                triplet = generated_triplet(reading, scene, rng)
                if triplet is not None:
                    found.append((triplet, picture))
    return found


def write(file: Path, vae: Any, examples: Examples) -> None:
    """Encode and write one file of examples."""
    tensors: dict[str, list[Tensor]] = {}
    for start in range(0, len(examples), BATCH):
        some = examples[start : start + BATCH]
        after = [draw(triplet.after, triplet.after_layout) for triplet, _ in some]
        for place, images in enumerate(([picture for _, picture in some], after)):
            mean, std = encode(vae, images)
            tensors.setdefault(f"mean{place}", []).append(mean)
            tensors.setdefault(f"std{place}", []).append(std)
    file.with_suffix(".pickle").write_bytes(pickle.dumps([triplet for triplet, _ in examples]))
    save_file({key: torch.cat(values).contiguous() for key, values in tensors.items()}, file)


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train generated`."""
    from rpo_cli.shapes.recipe.export import assemble  # export and seen build on this module
    from rpo_cli.shapes.recipe.seen import load_seen

    parser = argparse.ArgumentParser(prog="train generated", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".train/generated"))
    parser.add_argument("--model", type=Path, default=Path(".train/text-to-image"))
    parser.add_argument("--vae", type=Path, default=Path(".train/vae-decoder"))
    parser.add_argument("--seen", type=Path, default=Path(".train/seen"))
    parser.add_argument("--files", type=int, default=4, help="Files of each sort.")
    parser.add_argument("--per-file", type=int, default=PER_FILE, help="Pictures sampled for a file.")
    parser.add_argument("--sort", choices=("synthetic", "generated"), default="generated")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    pipeline, _ = assemble("text-to-image", options.model, options.vae)
    pipeline.set_progress_bar_config(disable=True)
    seen = load_seen(options.seen).pixels if options.sort == "synthetic" else None
    for number in range(options.files):
        file = options.folder / f"{options.sort}-{number:04d}.safetensors"
        if file.is_file():
            continue
        rng = random.Random(f"{options.sort} {number}")
        some = None if seen is None else seen[number * SEEN_PER_FILE : (number + 1) * SEEN_PER_FILE]
        examples = (
            generated_examples(rng, pipeline, options.per_file)
            if some is None
            else synthetic_examples(rng, some)
        )
        write(file, pipeline.vae, examples)

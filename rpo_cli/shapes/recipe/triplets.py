"""Editing examples: a picture, edits of it, and the picture after them, all else identical to the
pixel.

Two sources: rendered training scenes, and (`generated_triplet`) the text-to-image model's own pictures
as the oracle reads them, with the edits that lead to what was asked for: that is what the line
edits.
"""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file

from rpo_cli.shapes.edits import JOIN, SceneEdit, apply_all, say
from rpo_cli.shapes.grammar import UNKNOWN, Scene, sample_scene, split_of
from rpo_cli.shapes.oracle import Reading
from rpo_cli.shapes.recipe.draws import draw_edits
from rpo_cli.shapes.recipe.latents import Latents
from rpo_cli.shapes.render import Layout, Placement, draw, edit_layout, place
from rpo_cli.shapes.towards import plan

TWO_SHARE = 0.6
SEVERAL_SHARE = 0.25  # of rendered examples: two edits at once


@dataclass(frozen=True)
class Triplet:
    """The scene before, what is asked, the scene after and where its things lie."""

    before: Scene
    before_layout: Layout
    edits: tuple[SceneEdit, ...]
    after: Scene
    after_layout: Layout


def rendered_triplet(rng: random.Random, split: str = "train") -> Triplet:
    """A random triplet; for training both scenes are of the training split."""
    while True:
        before = sample_scene(rng, split, 2 if rng.random() < TWO_SHARE else 1)
        count = 2 if rng.random() < SEVERAL_SHARE else 1
        edits, change = draw_edits(before, rng, count)
        if split != "train" or split_of(change.scene) == "train":
            break
    layout = place(before, rng)
    after_layout = edit_layout(layout, before, change, rng)
    return Triplet(before, layout, tuple(edits), change.scene, after_layout)


def rendered_pictures(rng: random.Random) -> list[Image.Image]:
    """(before, after) of `rendered_triplet` for the same draw."""
    triplet = rendered_triplet(rng)
    return [
        draw(triplet.before, triplet.before_layout),
        draw(triplet.after, triplet.after_layout),
    ]


def instruction(triplet: Triplet, rng: random.Random) -> str:
    """The edits in random words; things are named briefly or in full."""
    full = rng.random() < 0.3
    parts = [say(triplet.before, edit, int(rng.random() < 0.3), full) for edit in triplet.edits]
    return JOIN.join(parts)


def seen_layout(reading: Reading) -> Layout:
    """Where the things of a read picture lie. Triangles and stars have their centroid a little off
    their box's middle.
    """
    shift = {"triangle": -0.12}
    size = {"small": 15.5, "large": 23.5}
    return Layout(
        tuple(
            Placement(thing.x, thing.y + shift.get(thing.shape, 0.0) * size[thing.size], size[thing.size])
            for thing in reading.things
        )
    )


def generated_triplet(reading: Reading, wanted: Scene, rng: random.Random) -> Triplet | None:
    """Edits of a generated picture: those towards `wanted` where it is flawed, else (and at times)
    random ones.

    None where the picture cannot be told well enough to say what it should become.
    """
    before = reading.loose
    if before.background == UNKNOWN or not 1 <= len(before.things) <= 2:
        return None
    if any(thing.colour == UNKNOWN for thing in before.things):
        return None
    asked = plan(before, wanted)
    if asked and rng.random() < 0.8:
        rng.shuffle(asked)
        edits = asked[: 1 if rng.random() < 0.6 else 3]
        change = apply_all(before, edits)
    elif reading.scene is not None:
        edits, change = draw_edits(before, rng, 1)
    else:
        return None
    if change is None or any(thing.shape == UNKNOWN for thing in change.scene.things):
        return None
    layout = seen_layout(reading)
    return Triplet(before, layout, tuple(edits), change.scene, edit_layout(layout, before, change, rng))


LATENTS = ("mean0", "std0", "mean1", "std1")  # before and after the edit; a file without examples has none


def load_generated(folder: Path) -> tuple[list[Triplet], Latents, Latents] | None:
    """(triplets, latents before, latents after) of everything written so far; None when there is
    nothing, not even in the files: hardly trained models make no picture that can be told apart.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return None
    triplets = [t for file in files for t in _load_triplets(file.with_suffix(".pickle"))]
    parts = [load_file(file) for file in files]
    if not triplets:
        return None
    joined = {key: torch.cat([part[key] for part in parts if part]) for key in LATENTS}
    before, after = (Latents(joined[f"mean{i}"], joined[f"std{i}"]) for i in range(2))
    return triplets, before, after


def _load_triplets(file: Path) -> list[Triplet]:
    """Our own working file in the training folder, never a download."""
    found: list[Triplet] = pickle.loads(file.read_bytes())
    return found

"""Scenes as 64x64 pictures: flat, crisp, anti-aliased shapes on a plain background. Nothing is read
back here (`oracle`).

A `Layout` holds every number that a picture depends on, so an edit can leave all else identical to
the pixel.
To add a shape: its outline in OUTLINES, in a box of side 1 about the origin, y down.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

from PIL import Image, ImageDraw

from rpo_cli.shapes.edits import Change
from rpo_cli.shapes.grammar import BACKGROUNDS, COLOURS, Scene, slots

SIDE = 64
OVERSAMPLING = 8
DIAMETER = {"small": 15.5, "large": 23.5}
SIZE_JITTER = 0.4
AXIS_JITTER, CROSS_JITTER, CENTER_JITTER = 1.5, 5.0, 3.0
_NEAR, _MID, _FAR = 16.0, 32.0, 48.0
SLOT_CENTRES = {
    "left": (_NEAR, _MID),
    "right": (_FAR, _MID),
    "top": (_MID, _NEAR),
    "bottom": (_MID, _FAR),
    "center": (_MID, _MID),
}
Outline = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Placement:
    """Centre and nominal diameter of one thing, in pixels."""

    x: float
    y: float
    diameter: float


@dataclass(frozen=True)
class Layout:
    """One placement per thing of the scene, in its order."""

    placements: tuple[Placement, ...]


def _regular(corners: int, radius: float, turn: float, inner: float = 1.0) -> Outline:
    """Corners on a circle; with `inner` < 1 every second one is drawn in (a star)."""
    radii = [radius * (inner if i % 2 else 1.0) for i in range(corners)]
    angles = [turn + 2 * math.pi * i / corners for i in range(corners)]
    return tuple((r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, angles, strict=True))


# Scaled so that all four look about equally big: the square is a little under the circle's
# diameter, the star over it.
OUTLINES: dict[str, Outline] = {
    "circle": _regular(72, 0.5, 0.0),
    "square": ((-0.45, -0.45), (0.45, -0.45), (0.45, 0.45), (-0.45, 0.45)),
    "triangle": ((0.0, -0.50), (0.545, 0.44), (-0.545, 0.44)),
    "star": _regular(10, 0.57, -math.pi / 2, inner=0.46),
}


def place_one(slot: str | None, size: str, rng: random.Random) -> Placement:
    """A jittered placement in a slot of POSITIONS; two opposite slots never overlap nor touch."""
    x, y = SLOT_CENTRES[slot or "center"]
    along_x = {"left": AXIS_JITTER, "right": AXIS_JITTER}.get(slot or "center", CROSS_JITTER)
    along_y = {"top": AXIS_JITTER, "bottom": AXIS_JITTER}.get(slot or "center", CROSS_JITTER)
    if slot in (None, "center"):
        along_x = along_y = CENTER_JITTER
    diameter = DIAMETER[size] + rng.uniform(-SIZE_JITTER, SIZE_JITTER)
    return Placement(x + rng.uniform(-along_x, along_x), y + rng.uniform(-along_y, along_y), diameter)


def place(scene: Scene, rng: random.Random) -> Layout:
    """Placements for a scene of one thing with a position or two with a relation."""
    pairs = zip(slots(scene), scene.things, strict=True)
    return Layout(tuple(place_one(slot, thing.size, rng) for slot, thing in pairs))


def draw(scene: Scene, layout: Layout) -> Image.Image:
    """The picture, 64x64 RGB: a function of its arguments alone."""
    side = SIDE * OVERSAMPLING
    canvas = Image.new("RGB", (side, side), BACKGROUNDS[scene.background])
    brush = ImageDraw.Draw(canvas)
    for thing, at in zip(scene.things, layout.placements, strict=True):
        outline = [
            ((at.x + u * at.diameter) * OVERSAMPLING, (at.y + v * at.diameter) * OVERSAMPLING)
            for u, v in OUTLINES[thing.shape]
        ]
        brush.polygon(outline, fill=COLOURS[thing.colour])
    return canvas.reduce(OVERSAMPLING)


def render(scene: Scene, rng: random.Random) -> Image.Image:
    """A picture of the scene with jitter drawn from `rng`."""
    return draw(scene, place(scene, rng))


def edit_layout(layout: Layout, before: Scene, change: Change, rng: random.Random) -> Layout:
    """The layout after an edit: what keeps its slot keeps its place, what is new or moved is placed
    afresh.
    """
    old_slots, new_slots = slots(before), slots(change.scene)
    placements = []
    for index, origin in enumerate(change.origin):
        thing = change.scene.things[index]
        fresh = place_one(new_slots[index], thing.size, rng)
        if origin is None:
            placements.append(fresh)
            continue
        old, was = layout.placements[origin], before.things[origin]
        diameter = old.diameter if was.size == thing.size else fresh.diameter
        stays = new_slots[index] == old_slots[origin]
        placements.append(replace(old if stays else fresh, diameter=diameter))
    return Layout(tuple(placements))

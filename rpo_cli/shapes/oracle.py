"""Reads a 64x64 picture back into a scene, without any learned part. For training data and
measuring only: no run uses it.

Background: nearest palette colour of the border. Things: connected components of what differs from
it; colour by the nearest palette colour, shape by the overlap with templates, size by area, place
by the nearest slot.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from rpo_cli.shapes.grammar import (
    BACKGROUNDS,
    COLOURS,
    POSITIONS,
    SHAPES,
    SIZES,
    UNKNOWN,
    Rgb,
    Scene,
    Thing,
)
from rpo_cli.shapes.render import DIAMETER, SIDE, SLOT_CENTRES, Layout, Placement, draw
from rpo_cli.shapes.towards import flaws

Array = np.ndarray
BACKGROUND_LIMIT = 45.0  # RGB distance beyond which a background is unknown
COLOUR_LIMIT = 75.0
FOREGROUND_LIMIT = 48.0  # RGB distance from the background that makes a pixel part of a thing
SMALLEST_AREA = 25  # pixels; less is a speck, not a thing (the smallest star has about 80)
OVERLAP_LIMIT = 0.80  # intersection over union below which a shape is unknown
GRID, REACH = (
    28,
    1.15,
)  # side of the normalised crop, and its half-width in equal-area radii times sqrt(pi)
_SPLIT_DIAMETER = (DIAMETER["small"] * DIAMETER["large"]) ** 0.5


@dataclass(frozen=True)
class SeenThing:
    """One thing as read: attributes (UNKNOWN where unclear), centre and area in pixels, overlap
    with its template.
    """

    shape: str
    colour: str
    size: str
    x: float
    y: float
    area: float
    overlap: float


@dataclass(frozen=True)
class Reading:
    """What a picture shows. `scene` is None when it is unreadable; `loose` may hold unknown shapes
    and odd counts.
    """

    things: tuple[SeenThing, ...]
    background: str
    scene: Scene | None
    loose: Scene


def _nearest(rgb: Array, palette: dict[str, Rgb], limit: float) -> str:
    distances = {name: float(np.linalg.norm(rgb - np.array(value))) for name, value in palette.items()}
    best = min(distances, key=lambda name: distances[name])
    return best if distances[best] <= limit else UNKNOWN


def _border_colour(pixels: Array) -> Array:
    edges = (pixels[:2], pixels[-2:], pixels[:, :2].swapaxes(0, 1), pixels[:, -2:].swapaxes(0, 1))
    return np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)


def _normalised(coverage: Array, area: float, x: float, y: float) -> Array:
    """The coverage resampled about its centroid on a GRID x GRID grid whose width grows with
    sqrt(area).
    """
    half = REACH * area**0.5
    steps = np.linspace(-half, half, GRID)
    rows, columns = np.meshgrid(y - 0.5 + steps, x - 0.5 + steps, indexing="ij")
    return ndimage.map_coordinates(coverage, [rows, columns], order=1, mode="constant")


def _moments(coverage: Array) -> tuple[float, float, float]:
    """(area, x, y) of a coverage map, in pixels with the picture's corner at 0."""
    area = float(coverage.sum())
    ys, xs = np.mgrid[0 : coverage.shape[0], 0 : coverage.shape[1]]
    return (
        area,
        float((xs * coverage).sum() / area) + 0.5,
        float((ys * coverage).sum() / area) + 0.5,
    )


@functools.cache
def _templates() -> dict[tuple[str, str], tuple[Array, float]]:
    """(shape, size) -> (normalised coverage, area of a unit diameter), from the renderer's own
    pictures.
    """
    found = {}
    for shape in SHAPES:
        for size in SIZES:
            scene = Scene((Thing(shape, "red", size),), "black", position="center")
            layout = Layout((Placement(32.0, 32.0, DIAMETER[size]),))
            pixels = np.asarray(draw(scene, layout), dtype=np.float64)
            coverage = _coverage(
                pixels, np.array(BACKGROUNDS["black"], float), np.array(COLOURS["red"], float)
            )
            area, x, y = _moments(coverage)
            found[shape, size] = (_normalised(coverage, area, x, y), area / DIAMETER[size] ** 2)
    return found


def _coverage(pixels: Array, background: Array, colour: Array) -> Array:
    """How much of each pixel is `colour` rather than `background`, 0 to 1."""
    axis = colour - background
    return np.clip((pixels - background) @ axis / (axis @ axis), 0.0, 1.0)


def _best_template(coverage: Array) -> tuple[str, str, float]:
    """(shape, size, overlap) of the best template; the size follows from the area the shape would
    have.
    """
    area, x, y = _moments(coverage)
    crop = _normalised(coverage, area, x, y)
    best = (UNKNOWN, "small", 0.0)
    for shape in SHAPES:
        unit = _templates()[shape, "large"][1]
        size = "large" if (area / unit) ** 0.5 > _SPLIT_DIAMETER else "small"
        template = _templates()[shape, size][0]
        overlap = float(np.minimum(crop, template).sum() / np.maximum(crop, template).sum())
        if overlap > best[2]:
            best = (shape, size, overlap)
    return best


def _read_thing(pixels: Array, mask: Array, background: Array) -> SeenThing:
    distance = np.where(mask, np.linalg.norm(pixels - background, axis=-1), 0.0)
    core = ndimage.binary_erosion(mask)
    inside = pixels[core if core.sum() >= 9 else mask]
    colour = np.median(inside, axis=0)
    near = ndimage.binary_dilation(mask, iterations=2)
    coverage = np.where(near, _coverage(pixels, background, colour), 0.0)
    shape, size, overlap = _best_template(coverage)
    area, x, y = _moments(np.where(mask, coverage, 0.0) if distance.any() else mask.astype(float))
    known = shape if overlap >= OVERLAP_LIMIT else UNKNOWN
    return SeenThing(known, _nearest(colour, COLOURS, COLOUR_LIMIT), size, x, y, area, overlap)


def _slot(thing: SeenThing) -> str:
    return min(
        POSITIONS,
        key=lambda p: (SLOT_CENTRES[p][0] - thing.x) ** 2 + (SLOT_CENTRES[p][1] - thing.y) ** 2,
    )


def _relation(first: SeenThing, second: SeenThing) -> str:
    dx, dy = second.x - first.x, second.y - first.y
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def _scene_of(things: tuple[SeenThing, ...], background: str) -> Scene:
    kept = tuple(Thing(t.shape, t.colour, t.size) for t in things)
    position = _slot(things[0]) if len(things) == 1 else None
    relation = _relation(things[0], things[1]) if len(things) == 2 else None
    return Scene(kept, background, relation=relation, position=position)


def read(image: Image.Image) -> Reading:
    """The reading of a 64x64 picture (other sizes are resampled to it). Things are ordered by area,
    largest first.
    """
    if image.size != (SIDE, SIDE):
        image = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    border = _border_colour(pixels)
    background = _nearest(border, BACKGROUNDS, BACKGROUND_LIMIT)
    labels, count = ndimage.label(np.linalg.norm(pixels - border, axis=-1) > FOREGROUND_LIMIT)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    kept = [i for i in range(1, count + 1) if areas[i] >= SMALLEST_AREA]
    found = tuple(_read_thing(pixels, labels == i, border) for i in kept)
    things = tuple(sorted(found, key=lambda t: (-t.area, t.x, t.y)))
    loose = _scene_of(things, background)
    clear = len(things) in (1, 2) and background != UNKNOWN
    clear = clear and all(UNKNOWN not in (t.shape, t.colour) for t in things)
    return Reading(things, background, loose if clear else None, loose)


def compare(reading: Reading, wanted: Scene) -> dict[str, bool]:
    """Attribute -> right, over the attributes that `wanted` has (position for one thing, relation
    for two).

    With a wrong count, position and relation are wrong, and every wanted thing without a
    counterpart is wrong too.
    """
    wrong = {flaw.aspect for flaw in flaws(reading.loose, wanted)}
    place = "position" if len(wanted.things) == 1 else "relation"
    right = {name: name not in wrong for name in ("count", "shape", "colour", "size", "background")}
    right[place] = place not in wrong and "count" not in wrong
    if len(reading.loose.things) < len(wanted.things):
        right |= {"shape": False, "colour": False, "size": False}
    return right

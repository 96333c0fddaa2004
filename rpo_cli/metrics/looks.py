"""How far pictures are from each other, by two cheap distances in [0, 1] that need no model."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as Picture

Array = NDArray[np.float64]
SIDE = 64
# what a reader of the results is told
DISTANCES = {
    "pixel": "mean |a - b| over the pixels and channels of both pictures at 64 x 64, in [0, 1]",
    "hash": "share of the 64 bits of the perceptual hashes (DCT) that differ, in [0, 1]",
}


class Look(NamedTuple):
    """A picture as the distances see it: (64, 64, 3) uint8, and its 64-bit perceptual hash."""

    small: NDArray[np.uint8]
    bits: int


def look(picture: Picture, bits: int) -> Look:
    """The picture at 64 x 64, whatever its shape was, with its hash."""
    same = picture.size == (SIDE, SIDE)
    small = picture if same else picture.resize((SIDE, SIDE), Image.Resampling.BOX)
    return Look(np.asarray(small.convert("RGB"), dtype=np.uint8), bits)


def pixel(a: Look, b: Look) -> float:
    return float(np.abs(a.small.astype(np.int16) - b.small.astype(np.int16)).mean() / 255)


def bits(a: Look, b: Look) -> float:
    return (a.bits ^ b.bits).bit_count() / 64


MEASURED_BY: dict[str, Callable[[Look, Look], float]] = {"pixel": pixel, "hash": bits}


def diversity(looks: Sequence[Sequence[Look | None]]) -> dict[str, Array]:
    """Distance → (P,): the mean over pairs of each prompt's pictures; nan with fewer than two."""
    found: dict[str, list[float]] = {name: [] for name in MEASURED_BY}
    for row in looks:
        pairs = list(combinations([seen for seen in row if seen is not None], 2))
        for name, distance in MEASURED_BY.items():
            found[name].append(float(np.mean([distance(*pair) for pair in pairs])) if pairs else np.nan)
    return {name: np.array(values) for name, values in found.items()}


def drift(
    looks: Sequence[Sequence[Look | None]], base: Sequence[Sequence[Look | None]]
) -> dict[str, Array]:
    """Distance → (P, S): from the base's picture of the same prompt and noise; nan where one is missing."""
    return {
        name: np.array(
            [
                [np.nan if a is None or b is None else distance(a, b) for a, b in zip(*rows, strict=True)]
                for rows in zip(looks, base, strict=True)
            ]
        )
        for name, distance in MEASURED_BY.items()
    }

"""A shortcut probe: can a classifier that knows nothing of prompts tell edited pictures from others?

If it can, pairs whose winner is mostly the edit also teach "looks edited", whatever the instruction was.
The classifier is a ridge logistic regression on a few statistics of texture and colour; a prompt's
pictures never stand on both sides of a fold. What it cannot tell, a larger model still may.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from rpo_cli.statistics import bootstrap_ratio

Array = NDArray[np.float64]
FOLDS, RIDGE, NEWTON_STEPS = 5, 1.0, 25
BANDS = 8
FEWEST = 20  # pictures of each class, below which nothing is said
FEATURES = (
    "logistic regression on colour means and spreads, gradients, Laplacian, noise residual, 8-pixel grid, "
    "distinct colours and the radial spectrum"
)


def features(picture: Picture) -> Array:
    """(24,) statistics of a picture that do not depend on what it shows where."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float64) / 255
    grey = pixels.mean(axis=2)
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    residual = grey - _blurred(grey)
    saturation = pixels.max(axis=2) - pixels.min(axis=2)
    colours = len(np.unique((pixels.reshape(-1, 3) * 255).astype(np.uint8), axis=0))
    return np.array(
        [
            *pixels.mean(axis=(0, 1)),
            *pixels.std(axis=(0, 1)),
            saturation.mean(),
            saturation.std(),
            across.mean(),
            down.mean(),
            np.abs(_laplacian(grey)).mean(),
            residual.std(),
            np.abs(residual).max(initial=0.0),
            _grid(across.mean(axis=0)),
            _grid(down.mean(axis=1)),
            np.log(colours / grey.size),
            *_spectrum(grey),
        ]
    )


def _blurred(grey: Array) -> Array:
    """The mean over 3 x 3 neighbours, edges repeated."""
    padded = np.pad(grey, 1, mode="edge")
    height, width = grey.shape
    shifts = [
        padded[row : row + height, column : column + width] for row in range(3) for column in range(3)
    ]
    return np.asarray(np.mean(shifts, axis=0))


def _laplacian(grey: Array) -> Array:
    padded = np.pad(grey, 1, mode="edge")
    around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return np.asarray(around - 4 * grey)


def _grid(steps: Array) -> float:
    """How much larger the steps between 8-pixel blocks are than the others: what autoencoders leave."""
    inside = np.ones(len(steps), dtype=bool)
    inside[7::8] = False
    if inside.all() or not inside.any():
        return 0.0
    return float(np.log((steps[~inside].mean() + 1e-6) / (steps[inside].mean() + 1e-6)))


def _spectrum(grey: Array) -> Array:
    """(8,) log power in rings of equal width of spatial frequency."""
    power = np.abs(np.fft.fft2(grey - grey.mean())) ** 2 / grey.size
    rows, columns = (np.fft.fftfreq(side) for side in grey.shape)
    radius = np.hypot(rows[:, None], columns[None])
    ring = np.minimum((radius / (radius.max() + 1e-12) * BANDS).astype(int), BANDS - 1)
    sums = np.bincount(ring.ravel(), power.ravel(), minlength=BANDS)
    counts = np.maximum(np.bincount(ring.ravel(), minlength=BANDS), 1)
    return np.asarray(np.log(sums / counts + 1e-9))


def probe(table: Array, labels: Sequence[bool], prompts: Sequence[str]) -> dict[str, Any] | None:
    """Cross-validated accuracy of telling the classes apart, with a 95 % interval by prompt.

    Args:
        table: (N, F) features. labels: (N,) the class. prompts: (N,) the group.

    Returns:
        pictures, accuracy, and chance: the share of the larger class. None with too few pictures.
    """
    truth = np.asarray(labels, dtype=bool)
    if min(truth.sum(), (~truth).sum()) < FEWEST or len(set(prompts)) < FOLDS:
        return None
    right = (predicted(table, truth, prompts) > 0) == truth
    groups: dict[str, list[bool]] = defaultdict(list)
    for prompt, hit in zip(prompts, right.tolist(), strict=True):
        groups[prompt].append(hit)
    accuracy = bootstrap_ratio(
        [sum(hits) for hits in groups.values()], [len(hits) for hits in groups.values()]
    )
    return {
        "pictures": len(truth),
        "accuracy": accuracy._asdict(),
        "chance": float(max(truth.mean(), 1 - truth.mean())),
    }


def predicted(table: Array, truth: NDArray[np.bool_], prompts: Sequence[str]) -> Array:
    """(N,) logits of each picture by a model that has seen no picture of its prompt."""
    folds = np.array([_fold(prompt) for prompt in prompts])
    logits = np.zeros(len(truth))
    for fold in range(FOLDS):
        held, rest = folds == fold, folds != fold
        if held.any() and 0 < truth[rest].sum() < rest.sum():
            middle, spread = table[rest].mean(axis=0), table[rest].std(axis=0)
            scaled = (table - middle) / np.where(spread > 0, spread, 1.0)
            weights = fitted(scaled[rest], truth[rest])
            logits[held] = _with_one(scaled[held]) @ weights
    return logits


def fitted(table: Array, truth: NDArray[np.bool_]) -> Array:
    """(F + 1,) weights of a ridge logistic regression by Newton's method; the last is the offset.

    Minimises sum of log(1 + exp(-s z)) + RIDGE/2 |w|², offset not shrunk; convex, so a few steps do.
    """
    rows = _with_one(table)
    shrink = np.full(rows.shape[1], RIDGE)
    shrink[-1] = 1e-6
    weights = np.zeros(rows.shape[1])
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (chance - truth) + shrink * weights
        bend = (rows.T * (chance * (1 - chance))) @ rows + np.diag(shrink)
        weights = weights - np.linalg.solve(bend, slope)
    return weights


def _with_one(table: Array) -> Array:
    return np.hstack([table, np.ones((len(table), 1))])


def _fold(prompt: str) -> int:
    return hashlib.sha256(f"probe {prompt}".encode()).digest()[0] % FOLDS

"""What the labels of a dataset are worth: how often judges agree, what looks alone can tell."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from rpo_cli.statistics import bootstrap_ratio, wilson

Figures = dict[str, Any]
MARGINS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.inf)  # standard deviations
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
ALL = "all"


@dataclass(frozen=True)
class Labelled:
    """One pair of a dataset, judged.

    Attributes:
        prompt: normalised, the cluster that a bootstrap draws.
        kind: "edit", "reversed edit", "seeds", "import" or "human".
        margin: of the label, in standard deviations; None where the label has none.
        judges: judge → what it gives the winner less the loser; 0 is no opinion.
        moved: distance → between the two pictures, in [0, 1]; {} where they were not looked at.
    """

    prompt: str
    kind: str
    margin: float | None
    judges: Mapping[str, float] = field(default_factory=dict)
    moved: Mapping[str, float] = field(default_factory=dict)


def agreement(pairs: Sequence[Labelled]) -> Figures:
    """Judge → kind (and all) → counts, and the share of decided pairs that agree with the label."""
    found: Figures = {}
    for judge in sorted({name for pair in pairs for name in pair.judges}):
        mine = [pair for pair in pairs if judge in pair.judges]
        kinds = [ALL, *sorted({pair.kind for pair in mine})]
        found[judge] = {
            kind: _agreement([pair for pair in mine if kind in (ALL, pair.kind)], judge) for kind in kinds
        }
    return found


def beside(pairs: Sequence[Labelled], judge: str) -> Figures:
    """Every other judge as `agreement` has it, but with what `judge` prefers in place of the label.

    Pairs of which it has no opinion are left out.
    """
    decided = [(pair, _sign(pair.judges[judge])) for pair in pairs if pair.judges.get(judge)]
    return agreement(
        [
            replace(pair, judges={name: sign * lead for name, lead in pair.judges.items() if name != judge})
            for pair, sign in decided
        ]
    )


def _agreement(pairs: Sequence[Labelled], judge: str) -> Figures:
    """Agreeing, tied, disagreeing; the share with an interval by prompt, None without a decided pair."""
    signs = [_sign(pair.judges[judge]) for pair in pairs]
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for pair, sign in zip(pairs, signs, strict=True):
        if sign:
            by_prompt[pair.prompt].append(sign)
    share = None
    if by_prompt:
        agreeing = [sum(sign > 0 for sign in found) for found in by_prompt.values()]
        share = bootstrap_ratio(agreeing, [len(found) for found in by_prompt.values()])._asdict()
    return {
        "pairs": len(pairs),
        "agree": signs.count(1),
        "tie": signs.count(0),
        "disagree": signs.count(-1),
        "share": share,
    }


def noise_by_margin(pairs: Sequence[Labelled]) -> Figures:
    """Judge → rows of margins [from, to): decided pairs and the share that the judge would turn around."""
    found: Figures = {}
    for judge in sorted({name for pair in pairs for name in pair.judges}):
        found[judge] = [
            row for low, high in pairwise(MARGINS) if (row := _noise(pairs, judge, low, high)) is not None
        ]
    return found


def _noise(pairs: Iterable[Labelled], judge: str, low: float, high: float) -> Figures | None:
    signs = [
        _sign(pair.judges[judge])
        for pair in pairs
        if judge in pair.judges and pair.margin is not None and low <= pair.margin < high
    ]
    decided = len(signs) - signs.count(0)
    if not decided:
        return None
    wrong = wilson(signs.count(-1), decided)._asdict()
    return {"from": low, "to": None if math.isinf(high) else high, "pairs": decided, "wrong": wrong}


def moves(pairs: Sequence[Labelled]) -> Figures:
    """Kind → distance → its quantiles between the pictures of a pair."""
    found: Figures = {}
    for kind in sorted({pair.kind for pair in pairs if pair.moved}):
        mine = [pair for pair in pairs if pair.kind == kind and pair.moved]
        found[kind] = {
            name: dict(
                zip(
                    map(str, QUANTILES),
                    np.quantile([pair.moved[name] for pair in mine], QUANTILES).tolist(),
                    strict=True,
                )
            )
            for name in sorted(mine[0].moved)
        }
    return found


def preferred(winner: Mapping[str, float] | None, loser: Mapping[str, float] | None) -> dict[str, float]:
    """Reward → winner less loser, for those that scored both with a finite number."""
    sides = (winner or {}, loser or {})
    both = [name for name in sides[0] if all(_finite(side.get(name)) for side in sides)]
    return {name: sides[0][name] - sides[1][name] for name in both}


def right_share(readings: Mapping[str, bool]) -> float:
    """Share of a measure's attributes that are right."""
    return sum(readings.values()) / len(readings)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


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

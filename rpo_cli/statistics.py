"""Intervals, win rates and agreement. numpy in, plain numbers out; every draw comes from a given seed."""

from collections.abc import Hashable, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CELLS = 1_000_000


class Interval(NamedTuple):
    """An estimate and the two ends of its interval, in the unit of the values."""

    value: float
    low: float
    high: float


def crossed_bootstrap(
    table: ArrayLike, *, level: float = 0.95, draws: int = 5_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of a (training seeds, prompts) table.

    Every training seed is measured on the same prompts, so the two are crossed, not nested: both are drawn
    with replacement, the same prompts for every drawn seed (Owen 2007, the pigeonhole bootstrap, which is
    never too narrow). One row is the plain bootstrap over prompts.

    Args:
        table: (S, P) finite numbers, one row a training seed.
        draws: number of resamples.

    Raises:
        ValueError: no table of two dimensions, an empty one, or a value that is not finite.
    """
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise ValueError("a crossed bootstrap needs a non-empty table of finite numbers")
    rows, columns = values.shape
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // columns)  # drawn places in memory at a time
    means = []
    for start in range(0, draws, chunk):
        count = min(chunk, draws - start)
        places = rng.integers(columns, size=(count, columns))
        by_row = np.stack([row[places].mean(axis=1) for row in values], axis=1)
        picked = rng.integers(rows, size=(count, rows))
        means.append(np.take_along_axis(by_row, picked, axis=1).mean(axis=1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return Interval(float(values.mean()), float(low), float(high))


def crossed_difference(
    table: ArrayLike, other: ArrayLike, *, level: float = 0.95, draws: int = 5_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the difference of the means of two (training seeds, prompts) tables.

    Column p of both is one prompt, and a resample draws the same prompts for both: the difference is paired
    by prompt. Training seeds are drawn apart, as two trainings have no more in common than their data.

    Raises:
        ValueError: tables of other prompts, an empty one, or a value that is not finite.
    """
    ours, theirs = crossed_means([table, other], draws=draws, seed=seed)
    tail = (1 - level) / 2
    low, high = np.quantile(ours - theirs, [tail, 1 - tail])
    value = np.mean(np.asarray(table, dtype=np.float64)) - np.mean(np.asarray(other, dtype=np.float64))
    return Interval(float(value), float(low), float(high))


def crossed_means(
    tables: Sequence[ArrayLike], *, draws: int = 5_000, seed: int = 0
) -> list[NDArray[np.float64]]:
    """(draws,) bootstrapped means of each (training seeds, prompts) table.

    The prompts drawn are the same for all tables, the training seeds are drawn for each by itself.

    Raises:
        ValueError: tables of other prompts, an empty one, or a value that is not finite.
    """
    values = [np.asarray(table, dtype=np.float64) for table in tables]
    if not values or any(
        found.ndim != 2 or not found.size or not np.isfinite(found).all() for found in values
    ):
        raise ValueError("a crossed bootstrap needs non-empty tables of finite numbers")
    prompts = values[0].shape[1]
    if any(found.shape[1] != prompts for found in values):
        raise ValueError("tables that are compared have the same prompts")
    rng = np.random.default_rng(seed)
    by_draw: list[list[NDArray[np.float64]]] = [[] for _ in values]  # each seed's mean over drawn prompts
    chunk = max(1, CELLS // prompts)
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        drawn = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=size)  # (size, prompts)
        for parts, found in zip(by_draw, values, strict=True):
            parts.append(drawn @ found.T / prompts)
    means = []
    for parts in by_draw:
        whole = np.concatenate(parts)  # (draws, seeds)
        seeds = rng.integers(whole.shape[1], size=whole.shape)
        means.append(np.take_along_axis(whole, seeds, axis=1).mean(axis=1))
    return means


def bootstrap_ratio(
    parts: ArrayLike, wholes: ArrayLike, *, level: float = 0.95, draws: int = 5_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of sum(parts) / sum(wholes) over clusters, drawn with replacement.

    For a share of rows whose clusters (prompts) differ in size. A resample without any row is left out.

    Args:
        parts, wholes: (P,) finite numbers, one per cluster; e.g. successes and rows of each prompt.

    Raises:
        ValueError: no clusters, lengths that differ, or nothing to divide by.
    """
    tops, bottoms = np.asarray(parts, dtype=np.float64), np.asarray(wholes, dtype=np.float64)
    if tops.ndim != 1 or tops.shape != bottoms.shape or not np.isfinite(tops + bottoms).all():
        raise ValueError("a ratio needs one finite part and whole per cluster")
    if not tops.size or bottoms.min() < 0 or bottoms.sum() <= 0:
        raise ValueError("a ratio needs clusters that hold something")
    rng = np.random.default_rng(seed)
    chunk = max(1, CELLS // tops.size)
    ratios = []
    for start in range(0, draws, chunk):
        places = rng.integers(tops.size, size=(min(chunk, draws - start), tops.size))
        under = bottoms[places].sum(axis=1)
        ratios.append(tops[places].sum(axis=1)[under > 0] / under[under > 0])
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail])
    return Interval(float(tops.sum() / bottoms.sum()), float(low), float(high))


def wilson(successes: int, total: int, *, level: float = 0.95) -> Interval:
    """Wilson score interval of a share (Wilson 1927): sound at 0, at 1 and for small totals.

    Raises:
        ValueError: unless 0 <= successes <= total and total > 0.
    """
    if total <= 0 or not 0 <= successes <= total:
        raise ValueError(f"{successes} of {total} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Agreement of two raters beyond chance (Cohen 1960): 1 full, 0 chance, < 0 worse than chance.

    nan when both always give one and the same label: chance then explains everything.

    Raises:
        ValueError: no ratings, or not one of each rater per item.
    """
    if not first or len(first) != len(second):
        raise ValueError("kappa needs one rating of each rater per item")
    count = len(first)
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / count
    expected = sum(first.count(label) * second.count(label) for label in set(first)) / count**2
    return float("nan") if expected == 1 else (observed - expected) / (1 - expected)


def bootstrap_kappa(
    first: Sequence[Hashable],
    second: Sequence[Hashable],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
    draws: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of Cohen's kappa, drawing whole clusters (prompts) with replacement.

    Resamples in which chance explains everything have no kappa and are left out; all nan if all are such.

    Raises:
        ValueError: no ratings, or not one of each rater and one cluster per item.
    """
    value = cohen_kappa(first, second)
    if len(clusters) != len(first):
        raise ValueError("kappa's interval needs one cluster per item")
    labels = {label: place for place, label in enumerate(dict.fromkeys([*first, *second]))}
    groups = {group: place for place, group in enumerate(dict.fromkeys(clusters))}
    tables = np.zeros((len(groups), len(labels), len(labels)))
    for a, b, group in zip(first, second, clusters, strict=True):
        tables[groups[group], labels[a], labels[b]] += 1
    picks = np.random.default_rng(seed).multinomial(
        len(groups), np.full(len(groups), 1 / len(groups)), draws
    )
    drawn = np.tensordot(picks, tables, axes=1)  # (draws, labels, labels)
    counts = drawn.sum(axis=(1, 2))
    observed = np.trace(drawn, axis1=1, axis2=2) / counts
    chance = (drawn.sum(axis=1) * drawn.sum(axis=2)).sum(axis=1) / counts**2
    known = chance < 1
    if not known.any():
        return Interval(value, float("nan"), float("nan"))
    kappas = (observed[known] - chance[known]) / (1 - chance[known])
    low, high = np.quantile(kappas, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))

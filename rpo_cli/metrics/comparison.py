"""Models and settings compared on equal prompts and equal start noise: means, differences, intervals.

P prompts, S start seeds each. nan stands where there is no number: a picture that was rejected, or an
attribute that the prompt does not name. Several models measured together (`Sequence[Measured]`) are one
setting trained with several seeds; their intervals draw training seeds and prompts, crossed.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpo_cli.statistics import crossed_bootstrap, crossed_difference

Array = NDArray[np.float64]
Figures = dict[str, Any]
FAILED = 0.1  # a failure lies below this quantile of the base's pictures
RIGHT = "right"
ALL = "all"


@dataclass(frozen=True)
class Measured:
    """What was measured of one model's pictures.

    Attributes:
        scores: reward → (P, S).
        readings: attribute → (P, S), 1 right, 0 wrong; {} without a measure.
        diversity: distance → (P,), the mean over pairs of a prompt's pictures.
        drift: distance → (P, S) from the base's picture of equal noise; {} of the base itself.
    """

    scores: Mapping[str, Array]
    readings: Mapping[str, Array] = field(default_factory=dict)
    diversity: Mapping[str, Array] = field(default_factory=dict)
    drift: Mapping[str, Array] = field(default_factory=dict)


def by_prompt(table: Array, reduce: Callable[..., Any] = np.nanmean, **options: Any) -> Array:
    """(P, S) → (P,), over the start seeds that have a number; nan where none has one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an empty prompt is nan, as is wanted
        found: Array = reduce(table, axis=1, **options)
    return found


def interval(rows: Iterable[Array]) -> Figures | None:
    """Mean and 95 % interval of one (P,) row per model, over the prompts that all of them have."""
    table = np.stack(list(rows))
    table = table[:, np.isfinite(table).all(axis=0)]
    return crossed_bootstrap(table)._asdict() if table.size else None


def of_models(models: Sequence[Measured], base: Measured) -> Figures:
    """What is to be said of a setting by itself."""
    return {
        "rewards": {name: _reward(models, name, base.scores[name]) for name in base.scores},
        "diversity": {name: interval(model.diversity[name] for model in models) for name in base.diversity},
        "measured": _measured(models, base, lambda model, name: by_prompt(model.readings[name])),
    }


def against_base(models: Sequence[Measured], base: Measured) -> Figures:
    """What is to be said of a setting beside the base: paired by prompt and start noise."""
    return {
        "rewards": {name: _gains(models, name, base.scores[name]) for name in base.scores},
        "diversity": {
            name: interval(model.diversity[name] - base.diversity[name] for model in models)
            for name in base.diversity
        },
        "drift": {
            name: interval(by_prompt(model.drift[name]) for model in models) for name in models[0].drift
        },
        "measured": _measured(
            models, base, lambda model, name: by_prompt(model.readings[name] - base.readings[name])
        ),
    }


# --- rewards -------------------------------------------------------------------------------------------


def _reward(models: Sequence[Measured], name: str, base: Array) -> Figures:
    """Mean, spread and lower tail of one reward.

    sd: over all pictures of a model. seed_variance: over the start seeds of one prompt (n - 1), averaged
    over prompts. failures: share of pictures below the base's 10 % quantile. worst_tenth: mean of the
    lowest tenth. tail: the median less the mean of the lowest tenth, the length of the lower tail.
    """
    scores = [model.scores[name] for model in models]
    limit = threshold(base)
    worst = _mean(worst_tenth(score) for score in scores)
    middle = _mean(_median(score) for score in scores)
    return {
        "mean": interval(by_prompt(score) for score in scores),
        "sd": _mean(_sd(score) for score in scores),
        "seed_variance": interval(seed_variance(score) for score in scores),
        "failures": interval(by_prompt(_below(score, limit)) for score in scores),
        "worst_tenth": worst,
        "tail": None if worst is None or middle is None else middle - worst,
    }


def _gains(models: Sequence[Measured], name: str, base: Array) -> Figures:
    scores = [model.scores[name] for model in models]
    limit = threshold(base)
    return {
        "difference": interval(by_prompt(score - base) for score in scores),
        "win_rate": interval(by_prompt(wins(score - base)) for score in scores),
        "seed_variance": interval(seed_variance(score) - seed_variance(base) for score in scores),
        "failures": interval(by_prompt(_below(score, limit) - _below(base, limit)) for score in scores),
    }


def wins(margins: Array) -> Array:
    """1 above 0, one half at exactly 0, 0 below; nan stays."""
    return np.where(np.isnan(margins), np.nan, (margins > 0) + 0.5 * (margins == 0))


def seed_variance(scores: Array) -> Array:
    """Variance over start seeds (n - 1) of each prompt; nan with fewer than two pictures."""
    found = by_prompt(scores, np.nanvar, ddof=1)
    return np.where(np.isfinite(scores).sum(axis=1) >= 2, found, np.nan)


def threshold(base: Array) -> float:
    """The base's 10 % quantile over all pictures; nan without any."""
    known = base[np.isfinite(base)]
    return float(np.quantile(known, FAILED)) if known.size else math.nan


def worst_tenth(scores: Array) -> float | None:
    """Mean of the lowest tenth of all pictures, at least one; None without any."""
    known = np.sort(scores[np.isfinite(scores)])
    return float(known[: max(1, round(known.size / 10))].mean()) if known.size else None


def _below(scores: Array, limit: float) -> Array:
    return np.where(np.isnan(scores), np.nan, scores < limit)


def _sd(scores: Array) -> float | None:
    known = scores[np.isfinite(scores)]
    return float(known.std(ddof=1)) if known.size >= 2 else None


def _median(scores: Array) -> float | None:
    known = scores[np.isfinite(scores)]
    return float(np.median(known)) if known.size else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


# --- measures ------------------------------------------------------------------------------------------


def with_right(readings: Mapping[str, Array]) -> dict[str, Array]:
    """The attributes and, first, whether all that the prompt names are right."""
    if not readings:
        return {}
    table = np.stack([readings[name] for name in sorted(readings)])
    some = np.isfinite(table).any(axis=0)
    right = np.where(some, np.where(np.isnan(table), 1.0, table).min(axis=0), np.nan)
    return {RIGHT: right, **{name: readings[name] for name in sorted(readings)}}


def strata(readings: Mapping[str, Array]) -> dict[str, NDArray[np.bool_]]:
    """Name → (P,) mask: all prompts, then for each attribute that only some name, those that do."""
    named: dict[str, NDArray[np.bool_]] = {
        name: np.asarray(np.isfinite(values).any(axis=1))
        for name, values in readings.items()
        if name != RIGHT
    }
    if not named:
        return {}
    every = np.asarray(np.stack(list(named.values())).any(axis=0))
    found: dict[str, NDArray[np.bool_]] = {ALL: np.full(every.shape, True)}
    for name, mask in sorted(named.items()):
        if not np.array_equal(mask, every):
            found[f"with {name}"] = mask
    return found


def _measured(models: Sequence[Measured], base: Measured, row: Callable[[Measured, str], Array]) -> Figures:
    """Stratum → number of prompts and attribute → interval."""
    found: Figures = {}
    for stratum, mask in strata(base.readings).items():
        attributes = {name: interval(row(model, name)[mask] for model in models) for name in base.readings}
        known = {name: value for name, value in attributes.items() if value is not None}
        found[stratum] = {"prompts": int(mask.sum()), "attributes": known}
    return found


REWARD, MEASURE = "reward", "measure"
HIGHER, LOWER, NONE, UNKNOWN = "higher", "lower", "no difference", "no common picture"
Figure = tuple[str, str]  # kind and name


@dataclass(frozen=True)
class Difference:
    """A figure's mean over one setting less that over another, with its 95 % interval.

    Attributes:
        of, less: labels of the two settings.
        value, low, high: in the figure's own unit, of a measure as a share; None without common pictures.
        prompts, pictures: that were compared: those of which every model of the two has a number.
        verdict: "no difference" where the interval contains 0, else "higher" or "lower".
    """

    kind: str
    name: str
    of: str
    less: str
    value: float | None
    low: float | None
    high: float | None
    prompts: int
    pictures: int
    verdict: str


def differences(
    rows: Iterable[Mapping[str, Any]], settings: Mapping[str, Sequence[str]]
) -> list[Difference]:
    """Every setting less the first one, in every figure.

    The interval is `statistics.crossed_difference`: a percentile bootstrap that draws prompts, the same
    for both settings, and training seeds, for each by itself. Start noises are not drawn: both sides have
    the same, and each prompt counts by its mean over them.

    Args:
        rows: lines of an evaluation's pictures.jsonl.
        settings: label → labels of its models, the one that all others are compared with first.
    """
    tables = tables_of(rows, {model for models in settings.values() for model in models})
    (first, base), *others = settings.items()
    return [
        difference(
            figure, (label, [found[model] for model in models]), (first, [found[model] for model in base])
        )
        for figure, found in tables.items()
        for label, models in others
    ]


def tables_of(rows: Iterable[Mapping[str, Any]], models: Iterable[str]) -> dict[Figure, dict[str, Array]]:
    """Figure → model → (prompts, start noises), nan where a picture has no number; rewards come first."""
    known = sorted(models)
    numbers: dict[Figure, dict[tuple[str, str, int], float]] = {}
    for row in rows:
        if row["model"] in known:
            place = (row["model"], row["prompt"], row["index"])
            for name, value in row["scores"].items():
                numbers.setdefault((REWARD, name), {})[place] = float(value)
            for name, value in row["right"].items():
                numbers.setdefault((MEASURE, name), {})[place] = float(value)
    return {figure: _tables(numbers[figure], known) for figure in sorted(numbers, key=_order)}


def _order(figure: Figure) -> tuple[bool, bool, str]:
    kind, name = figure
    return kind != REWARD, name != RIGHT, name


def _tables(numbers: Mapping[tuple[str, str, int], float], models: Sequence[str]) -> dict[str, Array]:
    rows = {prompt: row for row, prompt in enumerate(sorted({prompt for _, prompt, _ in numbers}))}
    shape = (len(rows), 1 + max(index for _, _, index in numbers))
    tables = {model: np.full(shape, np.nan) for model in models}
    for (model, prompt, index), value in numbers.items():
        tables[model][rows[prompt], index] = value
    return tables


def difference(
    figure: Figure, of: tuple[str, Sequence[Array]], less: tuple[str, Sequence[Array]]
) -> Difference:
    """One figure of two settings: label and the (prompts, start noises) table of each model."""
    common: NDArray[np.bool_] = np.asarray(np.isfinite(np.stack([*of[1], *less[1]])).all(axis=0))
    told = (*figure, of[0], less[0])
    if not common.any():
        return Difference(*told, None, None, None, 0, 0, UNKNOWN)
    ours, theirs = (_means(tables, common) for _, tables in (of, less))
    value, low, high = crossed_difference(ours, theirs)
    return Difference(*told, value, low, high, ours.shape[1], int(common.sum()), verdict(low, high))


def _means(tables: Sequence[Array], common: NDArray[np.bool_]) -> Array:
    """(training seeds, prompts): of each model and prompt the mean over the start noises in common."""
    kept = common.any(axis=1)
    return np.stack([by_prompt(np.where(common, table, np.nan)[kept]) for table in tables])


def verdict(low: float, high: float) -> str:
    """What an interval says: one that contains 0, its ends too, shows no difference."""
    if low > 0:
        return HIGHER
    return LOWER if high < 0 else NONE

"""Settings beside each other: differences of their means on equal prompts and equal start noise.

A setting is one model or several of different training seeds. Rows of numbers in, plain records out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rpo_cli.evaluation.figures import RIGHT, Array, by_prompt
from rpo_cli.statistics import crossed_difference

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

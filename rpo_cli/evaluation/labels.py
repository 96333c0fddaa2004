"""What the labels of a dataset are worth: how often judges agree with them, by kind and by margin."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

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


def judged(winner: Mapping[str, float] | None, loser: Mapping[str, float] | None) -> dict[str, float]:
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

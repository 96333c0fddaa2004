"""The figures of an evaluation as rows for other programs: one row a model and figure, all digits.

A figure that is a difference to the base of equal prompts and start noise is called so, and names the base.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

Figures = Mapping[str, Any]
FIRST = ("all", "right")
BASE = "base"  # that models stand beside in results of before there were several
OWN = ("mean", "sd", "seed_variance", "failures", "worst_tenth", "tail")
GAINS = {
    "difference": "mean_difference",
    "win_rate": "win_rate",
    "seed_variance": "seed_variance_difference",
    "failures": "failures_difference",
}


class Compared(NamedTuple):
    """One figure of one model.

    Attributes:
        beside: the base that it is compared with; None: a figure of the model alone.
        name: of the reward, the distance, or what is asked of a picture.
        of: the prompts that were counted: all, or those that name something.
    """

    model: str
    beside: str | None
    kind: str
    name: str
    of: str
    figure: str
    estimate: float | None
    low: float | None
    high: float | None
    prompts: int
    seeds: int


class Audited(NamedTuple):
    """One figure of a dataset's labels.

    Attributes:
        name: of the judge, the distance or the probe.
        n: the pairs that were judged; of a probe its pictures.
    """

    kind: str
    name: str
    pairs_of: str | None
    margin_from: float | None
    margin_to: float | None
    figure: str
    estimate: float | None
    low: float | None
    high: float | None
    n: int | None


Row = Compared | Audited


def ordered(names: Iterable[str]) -> list[str]:
    """Names in one order, whether results come from their file, which is sorted, or were just made."""
    return sorted(names, key=lambda name: (name not in FIRST, name))


def names_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The names of the columns."""
    return type(rows[0])._fields if rows else ()


def compared(results: Figures) -> list[Compared]:
    """Of `rpo eval RUN`."""
    return [row for setting in results["settings"] for row in _of_model(setting, results)]


def _of_model(setting: Figures, results: Figures) -> Iterator[Compared]:
    gains: Figures | None = setting.get("against_base")
    base = (setting.get("beside") or BASE) if gains is not None else None
    counts = (results["prompts"]["count"], results["seeds"])

    def row(kind: str, name: str, figure: str, found: Any, beside: str | None = None) -> Compared:
        return Compared(setting["label"], beside, kind, name, "all", figure, *_span(found), *counts)

    for name in ordered(setting["rewards"]):
        yield from (row("reward", name, figure, setting["rewards"][name][figure]) for figure in OWN)
    for name in ordered(setting["diversity"]):
        yield row("distance", name, "diversity", setting["diversity"][name])
    yield from _shares(setting, setting["measured"], None, "share", results)
    if gains is None:
        return
    for name in ordered(gains["rewards"]):
        found = gains["rewards"][name]
        yield from (row("reward", name, title, found[figure], base) for figure, title in GAINS.items())
    for name in ordered(gains["diversity"]):
        yield row("distance", name, "diversity_difference", gains["diversity"][name], base)
    for name in ordered(gains["drift"]):
        yield row("distance", name, "drift", gains["drift"][name], base)
    yield from _shares(setting, gains["measured"], base, "share_difference", results)


def _shares(
    setting: Figures, strata: Figures, beside: str | None, figure: str, results: Figures
) -> Iterator[Compared]:
    for stratum in ordered(strata):
        counts = (strata[stratum]["prompts"], results["seeds"])
        for name in ordered(strata[stratum]["attributes"]):
            told = (setting["label"], beside, "measure", name, stratum, figure)
            yield Compared(*told, *_span(strata[stratum]["attributes"][name]), *counts)


def _span(found: Any) -> tuple[float | None, float | None, float | None]:
    """Estimate and interval, of a number by itself or of none."""
    if isinstance(found, Mapping):
        return found["value"], found["low"], found["high"]
    return found, None, None


def audited(results: Figures) -> list[Audited]:
    """Of `rpo eval RUN --judge-labels`."""
    return [
        *_agreement("agreement", results["agreement"]),
        *_agreement("beside_people", results["beside_people"]),
        *_noise(results["noise_by_margin"]),
        *_moves(results["moves"]),
        *_probes(results["probe"]),
    ]


def _agreement(kind: str, found: Figures) -> Iterator[Audited]:
    for judge, kinds in found.items():
        for pairs_of, own in kinds.items():
            told = (kind, judge, pairs_of, None, None)
            yield Audited(*told, "share", *_span(own["share"]), own["pairs"])
            for figure in ("agree", "tie", "disagree"):
                yield Audited(*told, figure, own[figure], None, None, own["pairs"])


def _noise(found: Figures) -> Iterator[Audited]:
    for judge, rows in found.items():
        for row in rows:
            told = ("noise_by_margin", judge, None, row["from"], row["to"], "wrong")
            yield Audited(*told, *_span(row["wrong"]), row["pairs"])


def _moves(found: Figures) -> Iterator[Audited]:
    for pairs_of, distances in found.items():
        for name, quantiles in distances.items():
            for level, value in quantiles.items():
                told = ("moves", name, pairs_of, None, None, f"quantile_{level}")
                yield Audited(*told, *_span(value), None)


def _probes(found: Figures) -> Iterator[Audited]:
    for name, own in found.items():
        if isinstance(own, Mapping):
            told = ("probe", name, None, None, None)
            yield Audited(*told, "accuracy", *_span(own["accuracy"]), own["pictures"])
            yield Audited(*told, "chance", own["chance"], None, None, own["pictures"])

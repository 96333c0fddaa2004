"""An evaluation as a report tells it: tables with intervals, pictures of equal start noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Figures = Mapping[str, Any]


class Table(NamedTuple):
    """Text in cells; the first `names` columns are words, the others numbers."""

    caption: str
    names: int
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Grid:
    """One prompt: model → its pictures by start noise, None where one was rejected or is gone."""

    prompt: str
    rows: Sequence[tuple[str, Sequence[str | None]]]


@dataclass(frozen=True)
class Evaluation:
    """What `rpo eval` found under one name."""

    name: str
    summary: str
    tables: Sequence[Table]
    grids: Sequence[Grid] = ()


def evaluation(name: str, results: Figures, grids: Sequence[Grid]) -> Evaluation | None:
    """The pages' view of results.json; None where it is not what `rpo eval` writes."""
    try:
        settings = results["settings"]
        tables = [_rewards(settings), _looks(settings), _measured(results)]
        return Evaluation(name, _summary(results), [table for table in tables if table.rows], grids)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return None


def _summary(results: Figures) -> str:
    asked = results["prompts"]
    text = f"{asked['count']:,} prompts ({asked['source']}), {results['seeds']} start noises each"
    seen = f"; {asked['trained_on']:,} of these prompts were trained on" if asked["trained_on"] else ""
    rejected = {label: sum(reasons.values()) for label, reasons in results["rejected"].items()}
    some = ", ".join(f"{label} {count:,}" for label, count in rejected.items() if count)
    said = f"{text}{seen}{f'; rejected pictures: {some}' if some else ''}."
    several = guidances(results)
    return f"{said} {several[0].upper()}{several[1:]}." if several else said


def guidances(results: Figures) -> str:
    """At what the bases were sampled, and what stands beside which; "" where the run's guidance was all."""
    bases: Figures = results.get("bases") or {}
    if list(bases) in ([], ["base"]):
        return ""
    own = "the model's own"
    told = ", ".join(f"{label} {own if at is None else f'{at:g}'}" for label, at in bases.items())
    if len(bases) == 1:
        return f"guidance of {told}"
    return f"guidance of {told}; a model stands beside the base at its guidance, a base beside the first"


def _rewards(settings: Sequence[Figures]) -> Table:
    names = ("reward", "model", "mean", "from base", "wins over base")
    head = (*names, "sd over noises", "failures", "worst tenth")
    rows = [
        (
            name,
            setting["label"],
            interval(setting["rewards"][name]["mean"]),
            interval(_beside(setting, "rewards", name).get("difference"), signed=True),
            interval(_beside(setting, "rewards", name).get("win_rate")),
            _root(setting["rewards"][name]["seed_variance"]),
            *_tail(setting["rewards"][name]),
        )
        for name in settings[0]["rewards"]
        for setting in settings
    ]
    caption = (
        "Rewards; 95 % intervals by prompt in brackets. Failures: pictures below the base's 10 % quantile"
    )
    return Table(caption, 2, head, rows)


def _tail(found: Figures) -> tuple[str, str]:
    """The share of failures, and the mean of the worst tenth of the pictures."""
    worst = found.get("worst_tenth")
    return interval(found.get("failures")), "–" if worst is None else f"{float(worst):.3f}"


def _looks(settings: Sequence[Figures]) -> Table:
    head = ("distance", "model", "diversity", "from base", "drift")
    rows = [
        (
            name,
            setting["label"],
            interval(setting["diversity"][name]),
            interval(setting.get("against_base", {}).get("diversity", {}).get(name), signed=True),
            interval(setting.get("against_base", {}).get("drift", {}).get(name)),
        )
        for name in settings[0]["diversity"]
        for setting in settings
    ]
    caption = (
        "How far pictures of one prompt lie apart (diversity), and how far tuning has moved them (drift)"
    )
    return Table(caption, 2, head, rows)


def _measured(results: Figures) -> Table:
    head = ("what is asked", "model", "prompts", "share right", "from base")
    caption = f"Share of pictures that show what their prompt asks, by {results['measure']}"
    return Table(caption, 2, head, list(_shares(results["settings"])))


def _shares(settings: Sequence[Figures]) -> Iterator[tuple[str, ...]]:
    """Whether all is right by stratum, and each attribute over all prompts."""
    for stratum, found in settings[0]["measured"].items():
        for attribute in sorted(found["attributes"], key=lambda name: name != "right"):
            if attribute != "right" and stratum != "all":
                continue
            for setting in settings:
                own = setting["measured"][stratum]["attributes"].get(attribute)
                gain = _beside(setting, "measured", stratum).get("attributes", {}).get(attribute)
                name = "everything" if attribute == "right" else attribute
                title = name if stratum == "all" else f"{name}, {stratum}"
                signed = interval(gain, signed=True)
                # an attribute that only some prompts name has a stratum of its own
                named = settings[0]["measured"].get(f"with {attribute}", found)["prompts"]
                yield title, setting["label"], f"{named:,}", interval(own), signed


def _beside(setting: Figures, what: str, name: str) -> Figures:
    found: Figures = setting.get("against_base", {}).get(what, {}).get(name) or {}
    return found


def interval(found: Figures | None, *, signed: bool = False) -> str:
    if found is None:
        return "–"
    sign = "+" if signed else ""
    value, low, high = (f"{float(found[key]):{sign}.3f}" for key in ("value", "low", "high"))
    return f"{value} [{low},\N{NO-BREAK SPACE}{high}]"  # a narrow cell breaks before the bracket alone


def _root(found: Figures | None) -> str:
    return "–" if found is None else f"{max(0.0, float(found['value'])) ** 0.5:.3f}"


PROBES = {"edited": "edited pictures from originals", "winner": "winners from losers"}


def labels(name: str, results: Figures) -> Evaluation | None:
    """The pages' view of dataset.json; None where it is not what `rpo eval --judge-labels` writes."""
    try:
        said = f"{results['pairs']:,} pairs, {results['looked_at']:,} of them looked at."
        tables = [table for table in _tables(results) if table.rows]
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return None
    title = "Labels of the dataset" if name == "default" else f"Labels of the dataset, {name}"
    return Evaluation(title, said, tables)


def _tables(results: Figures) -> Iterator[Table]:
    yield _agreement(
        "Who agrees with the labels; rewards that made them do by construction", results["agreement"]
    )
    yield _agreement("Who agrees with the reviewers", results["beside_people"])
    rows = [
        (judge, _span(row), f"{row['pairs']:,}", interval(row["wrong"]))
        for judge, found in results["noise_by_margin"].items()
        for row in found
    ]
    head = ("judge", "margin, sd", "decided", "would turn around")
    yield Table("Label noise by margin: the share of labels that a judge would turn around", 2, head, rows)
    yield _moves(results["moves"])
    yield _probes(results["probe"])


def _agreement(caption: str, found: Figures) -> Table:
    rows = [
        (judge, kind, *(f"{own[key]:,}" for key in ("agree", "tie", "disagree")), interval(own["share"]))
        for judge, kinds in found.items()
        for kind, own in kinds.items()
    ]
    head = ("judge", "pairs of", "agree", "tie", "disagree", "share of decided")
    return Table(caption, 2, head, rows)


def _span(row: Figures) -> str:
    return f"{row['from']:g} and more" if row["to"] is None else f"{row['from']:g} to {row['to']:g}"


def _moves(moves: Figures) -> Table:
    rows = [
        (kind, distance, *(f"{value:.3f}" for value in quantiles.values()))
        for kind, distances in moves.items()
        for distance, quantiles in distances.items()
    ]
    levels = (
        [f"{100 * float(level):g} %" for level in next(iter(next(iter(moves.values())).values()))]
        if moves
        else []
    )
    return Table(
        "How far the pictures of a pair lie apart: quantiles", 2, ("pairs of", "distance", *levels), rows
    )


def _probes(probes: Figures) -> Table:
    rows = [
        (
            PROBES[name],
            *(("too few", "–", "–") if found is None else _probe(found)),
        )
        for name, found in sorted(probes.items())
        if name in PROBES
    ]
    caption = (
        "What a small classifier of texture and colour tells apart; above chance it is a shortcut to learn"
    )
    return Table(caption, 1, ("it tells", "pictures", "accuracy", "chance"), rows)


def _probe(found: Figures) -> tuple[str, str, str]:
    return f"{found['pictures']:,}", interval(found["accuracy"]), f"{found['chance']:.3f}"

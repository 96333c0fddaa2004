"""An evaluation as a report tells it: tables with intervals, and pictures of equal start noise."""

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
    said: str
    tables: Sequence[Table]
    grids: Sequence[Grid] = ()


def evaluation(name: str, results: Figures, grids: Sequence[Grid]) -> Evaluation | None:
    """The pages' view of results.json; None where it is not what `rpo eval` writes."""
    try:
        settings = results["settings"]
        tables = [_rewards(settings), _looks(settings), _measured(results)]
        return Evaluation(name, _said(results), [table for table in tables if table.rows], grids)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError):
        return None


def _said(results: Figures) -> str:
    asked = results["prompts"]
    text = f"{asked['count']:,} prompts ({asked['source']}), {results['seeds']} start noises each"
    seen = f"; {asked['trained_on']:,} of these prompts were trained on" if asked["trained_on"] else ""
    rejected = {label: sum(reasons.values()) for label, reasons in results["rejected"].items()}
    some = ", ".join(f"{label} {count:,}" for label, count in rejected.items() if count)
    return f"{text}{seen}{f'; rejected pictures: {some}' if some else ''}."


def _rewards(settings: Sequence[Figures]) -> Table:
    head = ("reward", "model", "mean", "difference from base", "win rate over base", "sd over noises")
    rows = [
        (
            name,
            setting["label"],
            interval(setting["rewards"][name]["mean"]),
            interval(_beside(setting, "rewards", name).get("difference"), signed=True),
            interval(_beside(setting, "rewards", name).get("win_rate")),
            _root(setting["rewards"][name]["seed_variance"]),
        )
        for name in settings[0]["rewards"]
        for setting in settings
    ]
    return Table("Rewards; 95 % intervals by prompt in brackets", 2, head, rows)


def _looks(settings: Sequence[Figures]) -> Table:
    head = ("distance", "model", "diversity", "difference from base", "drift from base")
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
    caption = "How far pictures of one prompt lie apart, and how far tuning has moved them"
    return Table(caption, 2, head, rows)


def _measured(results: Figures) -> Table:
    head = (str(results["measure"]), "prompts", "model", "share right", "difference from base")
    return Table(f"By {results['measure']}", 3, head, list(_shares(results["settings"])))


def _shares(settings: Sequence[Figures]) -> Iterator[tuple[str, ...]]:
    """Whether all is right by stratum, and each attribute over all prompts."""
    for stratum, found in settings[0]["measured"].items():
        for attribute in found["attributes"]:
            if attribute != "right" and stratum != "all":
                continue
            for setting in settings:
                own = setting["measured"][stratum]["attributes"].get(attribute)
                gain = _beside(setting, "measured", stratum).get("attributes", {}).get(attribute)
                title = attribute if stratum == "all" else f"{attribute}, {stratum}"
                signed = interval(gain, signed=True)
                yield title, f"{found['prompts']:,}", setting["label"], interval(own), signed


def _beside(setting: Figures, what: str, name: str) -> Figures:
    found: Figures = setting.get("against_base", {}).get(what, {}).get(name) or {}
    return found


def interval(found: Figures | None, *, signed: bool = False) -> str:
    if found is None:
        return "–"
    sign = "+" if signed else ""
    value, low, high = (f"{float(found[key]):{sign}.3f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _root(found: Figures | None) -> str:
    return "–" if found is None else f"{max(0.0, float(found['value'])) ** 0.5:.3f}"

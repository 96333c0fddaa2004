"""What `rpo sweep` prints: its trainings, every setting by itself, and the differences between settings."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rpo_cli.cli.evaluation_rows import ordered
from rpo_cli.cli.output import Output, folded, listing
from rpo_cli.cli.tables import Format, Table, csv_text, markdown

if TYPE_CHECKING:
    from rpo_cli.line.sweep.run import Sweep, SweepPlan
    from rpo_cli.metrics.comparison import Difference

FEW_SEEDS, FEW_PROMPTS = 5, 30  # below which an interval is rough
RIGHT = "right"
DIGITS = 3
HOW = (
    "95 % intervals: a bootstrap that draws prompts, the same for both settings, and training seeds, for "
    "each setting by itself; paired by prompt and start noise. Each interval is for one difference alone: "
    "of twenty that are none, one is told by chance."
)


class Row(NamedTuple):
    """One figure for another program.

    Attributes:
        less: what it is a difference to: the base, or the first setting; None: the setting's own mean.
    """

    setting: str
    less: str | None
    kind: str
    name: str
    estimate: float | None
    low: float | None
    high: float | None
    prompts: int
    seeds: int
    verdict: str | None


# --- the plan ------------------------------------------------------------------------------------------


def planned(say: Output, plan: "SweepPlan") -> None:
    """The trainings and how far they are."""
    rows = [[each.name, _own(each.beta), _own(each.learning_rate), each.state] for each in plan.trainings]
    parts = [_head(plan), listing(["training", "beta", "rate", "state"], rows, keys=0), _ahead(plan)]
    say.result({"plan": plan}, "\n\n".join(parts), essence="\n".join(each.name for each in plan.trainings))


def _own(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _head(plan: "SweepPlan") -> str:
    settings = dict.fromkeys(each.setting for each in plan.trainings)
    seeds = ", ".join(map(str, plan.seeds))
    return folded(
        f"sweep {plan.name}: {len(settings)} settings x {len(plan.seeds)} training seeds ({seeds}), "
        f"{len(plan.trainings)} trainings"
    )


def _ahead(plan: "SweepPlan") -> str:
    count = sum(each.state != "finished" for each in plan.trainings)
    models = len(plan.trainings) + 1
    return folded(
        f"to train: {count} of {len(plan.trainings)}; then {models} models (the base too) draw "
        f"{plan.prompts:,} prompts x {plan.pictures} start noises"
    )


# --- what was found ------------------------------------------------------------------------------------


def found(say: Output, sweep: "Sweep", form: Format | None = None) -> None:
    """A table of every setting, and one of the differences between them.

    Args:
        form: of the tables, for another program; None: for people.
    """
    tables = [_alone(sweep), _between(sweep.differences)]
    told = [*_places(sweep)]
    if form is None:
        parts = [_head(sweep.plan), _on(sweep), *(_text(table) for table in tables), folded(HOW)]
        text = "\n\n".join(part for part in parts if part)
        say.result(_data(sweep), "\n".join([text, "", *told]), essence=sweep.path)
    else:
        text = markdown(tables) if form == "md" else csv_text(Row._fields, _rows(sweep))
        say.result(None, text, essence=text)
        for part in (_head(sweep.plan), _on(sweep), folded(HOW), *told):
            say.hint(part)
    for hint in _doubts(sweep):
        say.hint(hint)


def _data(sweep: "Sweep") -> dict[str, Any]:
    return {
        "name": sweep.plan.name,
        "path": sweep.path,
        "plot": sweep.plot,
        "seeds": sweep.plan.seeds,
        "trainings": sweep.plan.trainings,
        "differences": sweep.differences,
        "curves": sweep.curves and {**vars(sweep.curves), "bands": _named(sweep)},
        "evaluation": {"path": sweep.evaluation.path, **sweep.evaluation.results},
    }


def _named(sweep: "Sweep") -> dict[str, list[dict[str, float]]]:
    bands = sweep.curves.bands if sweep.curves else {}
    return {label: [band._asdict() for band in found] for label, found in bands.items()}


def _text(table: Table) -> str:
    """A table of at most 80 columns, a value and its interval in one cell."""
    if not table.rows:
        return ""
    header = [title for title in table.header if title]
    rows = []
    for row in table.rows:
        cells: list[str] = []
        for title, value in zip(table.header, row, strict=True):
            if title:
                cells.append(str(value))
            else:
                cells[-1] = f"{cells[-1]} {value}".strip()
        rows.append(cells)
    return listing(header, rows, keys=0)


def _on(sweep: "Sweep") -> str:
    asked = sweep.evaluation.results["prompts"]
    rejected = {
        label: sum(reasons.values()) for label, reasons in sweep.evaluation.results["rejected"].items()
    }
    some = ", ".join(f"{label} {count:,}" for label, count in rejected.items() if count)
    text = (
        f"measured on {asked['count']:,} prompts ({asked['source']}) x {sweep.plan.pictures} start noises"
    )
    return folded(f"{text}; rejected: {some}" if some else text)


def _alone(sweep: "Sweep") -> Table:
    """Each setting by itself and beside the base."""
    rows = [
        [name, setting, *_span(own), *_span(gain, signed=True)]
        for kind, name, setting, own, gain in _figures(sweep)
        if kind == "reward" or name == RIGHT
    ]
    return Table(["figure", "setting", "mean", "", "from the base", ""], rows, keys=2)


def _between(differences: "Sequence[Difference]") -> Table:
    rows = [
        [
            one.name,
            f"{one.of} - {one.less}",
            *_span(_ends(one), signed=True, digits=_digits(one)),
            one.verdict,
        ]
        for one in differences
        if one.kind == "reward" or one.name == RIGHT
    ]
    return Table(["figure", "setting", "difference", "", "verdict"], rows, keys=2)


def _figures(sweep: "Sweep") -> Iterator[tuple[str, str, str, Any, Any]]:
    """(kind, figure, setting, its mean, its difference to the base), figure by figure, the base first."""
    settings = sweep.evaluation.results["settings"]
    for name in ordered(settings[0]["rewards"]):
        for row in settings:
            gain = row.get("against_base", {}).get("rewards", {}).get(name, {}).get("difference")
            yield "reward", name, row["label"], row["rewards"][name]["mean"], gain
    for name in ordered(settings[0]["measured"].get("all", {}).get("attributes", {})):
        for row in settings:
            own, gain = (
                place.get("measured", {}).get("all", {}).get("attributes", {}).get(name)
                for place in (row, row.get("against_base", {}))
            )
            yield "measure", name, row["label"], own, gain


def _rows(sweep: "Sweep") -> list[Row]:
    """Means, differences to the base, and differences to the first setting, with every digit."""
    count = sweep.evaluation.results["prompts"]["count"]
    members = {row["label"]: len(row["members"]) for row in sweep.evaluation.results["settings"]}
    base = sweep.evaluation.results["settings"][0]["label"]
    rows = []
    for kind, name, setting, own, gain in _figures(sweep):
        rows.append(Row(setting, None, kind, name, *_numbers(own), count, members[setting], None))
        if setting != base:
            rows.append(Row(setting, base, kind, name, *_numbers(gain), count, members[setting], None))
    for one in sweep.differences:
        numbers = (one.value, one.low, one.high)
        told = (one.of, one.less, one.kind, one.name)
        rows.append(Row(*told, *numbers, one.prompts, members[one.of], one.verdict))
    return rows


def _numbers(found: Any) -> tuple[float | None, float | None, float | None]:
    return (found["value"], found["low"], found["high"]) if found else (None, None, None)


def _ends(one: "Difference") -> dict[str, float] | None:
    if one.value is None or one.low is None or one.high is None:
        return None
    return {"value": one.value, "low": one.low, "high": one.high}


def _digits(one: "Difference") -> int:
    """As many that no end of an interval beside 0 reads as 0."""
    ends = [abs(end) for end in (one.low, one.high) if end]
    return DIGITS if all(end >= 0.5 / 10**DIGITS for end in ends) else 2 * DIGITS


def _span(found: Any, *, signed: bool = False, digits: int = DIGITS) -> list[str]:
    if not found:
        return ["", ""]
    sign = "+" if signed else ""
    value, low, high = (f"{found[key]:{sign}.{digits}f}" for key in ("value", "low", "high"))
    return [value, f"[{low}, {high}]"]


def _places(sweep: "Sweep") -> Iterator[str]:
    if sweep.curves is not None and sweep.plot is not None:
        left = f"; without it: {', '.join(sweep.curves.left_out)}" if sweep.curves.left_out else ""
        yield folded(f"curves: {sweep.plot} ({sweep.curves.said}{left})")
    yield f"results: {sweep.path}"


def _doubts(sweep: "Sweep") -> Iterator[str]:
    asked, seeds = sweep.evaluation.results["prompts"], len(sweep.plan.seeds)
    if asked["trained_on"]:
        yield f"{asked['trained_on']:,} of these prompts were trained on: this is no measure of new prompts"
    if seeds == 1:
        yield "one training seed: the intervals say nothing of how much trainings differ; --seeds 3"
    elif seeds < FEW_SEEDS:
        yield f"{seeds} training seeds are few: take the intervals as rough"
    if asked["count"] < FEW_PROMPTS:
        yield f"{asked['count']} prompts are few: take the intervals as rough, or pass --prompts FILE"

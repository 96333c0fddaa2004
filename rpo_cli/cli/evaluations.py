"""What `rpo eval` prints: tables of means and differences with their intervals, or the same for a page."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rpo_cli.cli import evaluation_rows
from rpo_cli.cli.evaluation_rows import ordered
from rpo_cli.cli.output import Output, folded
from rpo_cli.cli.tables import Format, Table, csv_text, markdown, text_of
from rpo_cli.visuals.evaluated import guidances

if TYPE_CHECKING:
    from rpo_cli.line.evaluation.evaluate import Evaluation

FEW = 30  # prompts, below which an interval by prompt is rough
LEGEND = (
    "sd: over all pictures; seed sd: over the start seeds of one prompt; failures: pictures below the "
    "base's 10 % quantile; tail: the median less the mean of the worst tenth; wins: pictures above the "
    "base's of the same start noise, a tie counts half; diversity: between pictures of one prompt; drift: "
    "from the base's picture of the same noise"
)
PROBES = {"edited": "tells edited pictures from originals", "winner": "tells winners from losers"}
Figures = Mapping[str, Any]


def compared(
    say: Output, found: "Evaluation", probes: Figures | None = None, form: Format | None = None
) -> None:
    """One table per kind of figure; the first line says on what, the last what a gain may rest on.

    Args:
        probes: what `rpo eval --judge-labels` has found of shortcuts in the pairs; None: it has not looked.
        form: of the tables, for another program; None: for people.
    """
    results = found.results
    settings = results["settings"]
    tables = [_rewards(settings), _gains(settings), _distances(settings), _measured(results)]
    beside = [folded(LEGEND)] + ([f"of the run's pairs, {_probe_line('edited', probes)}"] if probes else [])
    if form is None:
        data = {"path": found.path, "skipped": found.skipped, "probe": probes, **results}
        _for_people(say, found.path, data, [_head(results), *map(text_of, tables), *beside])
    else:
        rows = evaluation_rows.compared(results)
        _for_programs(say, found.path, form, tables, rows, [_head(results), *beside])
    asked = results["prompts"]
    if asked["trained_on"]:
        say.hint(
            f"{asked['trained_on']:,} of these prompts were trained on: this is no measure of new prompts"
        )
    if asked["count"] < FEW:
        say.hint(f"{asked['count']} prompts are few: take the intervals as rough, or pass --prompts FILE")


def _for_people(say: Output, path: str, data: Figures, parts: Sequence[str]) -> None:
    text = "\n\n".join(part for part in parts if part)
    say.result(data, f"{text}\n\nresults: {path}", essence=path)


def _for_programs(
    say: Output,
    path: str,
    form: Format,
    tables: Sequence[Table],
    rows: Sequence[evaluation_rows.Row],
    beside: Sequence[str],
) -> None:
    """The figures alone on stdout, under --quiet too; what a person wants to know beside them on stderr."""
    text = markdown(tables) if form == "md" else csv_text(evaluation_rows.names_of(rows), rows)
    say.result(None, text, essence=text)
    for part in (*beside, f"results: {path}"):
        say.hint(part)


def _head(results: Figures) -> str:
    asked = results["prompts"]
    text = f"{asked['count']:,} prompts ({asked['source']}) x {results['seeds']} start seeds"
    rejected = {label: sum(reasons.values()) for label, reasons in results["rejected"].items()}
    some = ", ".join(f"{label} {count:,}" for label, count in rejected.items() if count)
    told = f"{text}; 95 % intervals by prompt" + (f"; rejected: {some}" if some else "")
    if not (several := guidances(results)):
        return told
    return told + "\n" + folded(several)


def _rewards(settings: Sequence[Figures]) -> Table:
    """Each model by itself."""
    rows = []
    for name in ordered(settings[0]["rewards"]):
        for setting in settings:
            own = setting["rewards"][name]
            rows.append(
                [
                    *(name, setting["label"], *_interval(own["mean"])),
                    *(_plain(own["sd"]), _root(own["seed_variance"]), _value(own["failures"])),
                    *(_plain(own["worst_tenth"]), _plain(own["tail"])),
                ]
            )
    header = ["reward", "model", "mean", "", "sd", "seed sd", "failures", "worst tenth", "tail"]
    return Table(header, rows, keys=2)


def _gains(settings: Sequence[Figures]) -> Table:
    """Each model beside the base."""
    rows = [
        [
            *(name, setting["label"]),
            *_interval(found.get("difference"), signed=True),
            *_interval(found.get("win_rate")),
            *_interval(found.get("seed_variance"), signed=True),
            *_interval(found.get("failures"), signed=True),
        ]
        for name in ordered(settings[0]["rewards"])
        for setting in settings[1:]
        for found in [setting["against_base"]["rewards"].get(name, {})]
    ]
    header = ["beside base", "model", *("difference", "", "wins", "", "seed variance", "", "failures", "")]
    return Table(header, rows, keys=2)


def _distances(settings: Sequence[Figures]) -> Table:
    header = ["distance", "model", "diversity", "", "difference", "", "drift", ""]
    rows = []
    for name in ordered(settings[0]["diversity"]):
        for setting in settings:
            beside = setting.get("against_base", {"diversity": {}, "drift": {}})
            rows.append(
                [
                    name,
                    setting["label"],
                    *_interval(setting["diversity"][name]),
                    *_interval(beside["diversity"].get(name), signed=True),
                    *_interval(beside["drift"].get(name)),
                ]
            )
    return Table(header, rows, keys=2)


def _measured(results: Figures) -> Table:
    """Whether all is right by stratum, and each attribute over all prompts."""
    header = [str(results["measure"]), "model", "prompts", "share", "", "points", ""]
    rows = []
    settings = results["settings"]
    for stratum in ordered(settings[0]["measured"]):
        found = settings[0]["measured"][stratum]
        for attribute in ordered(found["attributes"]):
            if attribute != "right" and stratum != "all":
                continue
            title = attribute if stratum == "all" else f"{attribute}, {stratum}"
            for setting in settings:
                own = setting["measured"][stratum]["attributes"].get(attribute)
                beside = setting.get("against_base", {"measured": {}})["measured"].get(stratum, {})
                gain = beside.get("attributes", {}).get(attribute)
                points = {key: 100 * value for key, value in gain.items()} if gain else None
                # an attribute that only some prompts name has a stratum of its own
                named = settings[0]["measured"].get(f"with {attribute}", found)
                rows.append(
                    [
                        title,
                        setting["label"],
                        named["prompts"],
                        *_interval(own),
                        *_interval(points, signed=True, digits=1),
                    ]
                )
    return Table(header, rows, keys=2)


def audited(say: Output, found: "Evaluation", form: Format | None = None) -> None:
    """Agreement with the labels, noise by margin, how far pictures moved, and the probes.

    Args:
        form: of the tables, for another program; None: for people.
    """
    results = found.results
    head = f"{results['pairs']:,} pairs, {results['looked_at']:,} of them looked at\n"
    head += "95 % intervals, by prompt; of noise by margin Wilson's, pairs as if independent"
    tables = [_agreement(results["agreement"], "judge")]
    tables += [_agreement(results["beside_people"], "judge beside people"), _noise(results)]
    tables += [_moves(results)]
    told = "\n".join(_probe_line(key, results["probe"]) for key in PROBES)
    if form is None:
        data = {"path": found.path, "skipped": found.skipped, **results}
        _for_people(say, found.path, data, [head, *map(text_of, tables), told])
    else:
        tables.append(_probes(results["probe"]))
        _for_programs(say, found.path, form, tables, evaluation_rows.audited(results), [head, told])
    say.hint(
        "rewards that made the labels agree with them by construction, and people under --use-verdicts "
        "override or filter; a measure does not"
    )


def _agreement(found: Figures, title: str) -> Table:
    rows = [
        [judge, kind, own["pairs"], own["agree"], own["tie"], own["disagree"], *_interval(own["share"])]
        for judge, kinds in found.items()
        for kind, own in kinds.items()
    ]
    header = [title, "pairs of", "pairs", "agree", "tie", "disagree", "share of decided", ""]
    return Table(header, rows, keys=2)


def _noise(results: Figures) -> Table:
    rows = [
        [judge, _span(row), row["pairs"], *_interval(row["wrong"])]
        for judge, found in results["noise_by_margin"].items()
        for row in found
    ]
    return Table(["judge", "margin (sd)", "decided", "would turn around", ""], rows, keys=2)


def _span(row: Figures) -> str:
    return f"{row['from']:g} and more" if row["to"] is None else f"{row['from']:g} to {row['to']:g}"


def _moves(results: Figures) -> Table:
    rows = [
        [kind, distance, quantiles]
        for kind, distances in results["moves"].items()
        for distance, quantiles in distances.items()
    ]
    levels = [f"{100 * float(level):g} %" for level in (rows[0][2] if rows else ())]
    cells = [[*names, *(f"{value:.3f}" for value in found.values())] for *names, found in rows]
    return Table(["pairs of", "distance", *levels], cells, keys=2)


def _probes(probes: Figures) -> Table:
    rows = [
        [PROBES[key], found["pictures"], *_interval(found["accuracy"]), _plain(found["chance"])]
        for key in PROBES
        if (found := probes[key]) is not None
    ]
    return Table(["a classifier of looks alone", "pictures", "accuracy", "", "chance"], rows)


def _probe_line(key: str, probes: Figures) -> str:
    return f"a classifier of looks alone {PROBES[key]}: {_probe(probes[key])}"


def _probe(found: Figures | None) -> str:
    if found is None:
        return "too few pictures to say"
    value, span = _interval(found["accuracy"])
    shortcut = found["accuracy"]["low"] > found["chance"]
    verdict = "a shortcut to learn" if shortcut else "not told apart from chance"
    return f"{value} {span} of {found['pictures']:,} pictures, chance {found['chance']:.3f}: {verdict}"


def _interval(found: Mapping[str, float] | None, *, signed: bool = False, digits: int = 3) -> list[str]:
    """The value and its interval; blanks where there is none."""
    if found is None:
        return ["", ""]
    sign = "+" if signed else ""
    value, low, high = (f"{found[key]:{sign}.{digits}f}" for key in ("value", "low", "high"))
    return [value, f"[{low}, {high}]"]


def _value(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{found['value']:.3f}"


def _plain(found: float | None) -> str:
    return "" if found is None else f"{found:.3f}"


def _root(found: Mapping[str, float] | None) -> str:
    return "" if found is None else f"{max(0.0, found['value']) ** 0.5:.3f}"

"""What `rpo eval --judge-labels` found of the labels, as tables of a report."""

from collections.abc import Iterator

from rpo_cli.report.evaluated import Evaluation, Figures, Table, interval

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

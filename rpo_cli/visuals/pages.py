"""The pages of a report: what they show as data, and the pages as text."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rpo_cli.records import EDITED, Pair
from rpo_cli.visuals import charts
from rpo_cli.visuals import tally as figures
from rpo_cli.visuals.contact_sheet import VERDICTS
from rpo_cli.visuals.evaluated import Evaluation, Table
from rpo_cli.visuals.html import render
from rpo_cli.visuals.tally import SECTIONS, Selection, Tally


@dataclass(frozen=True)
class StageRow:
    """One stage of the line: its rows, rows of older settings (`stale`), and rejects by reason.

    rate: rows a second when it last ran here; None when that is not known.
    """

    stage: str
    rows: int
    stale: int
    rejects: Mapping[str, int]
    rate: float | None = None

    @property
    def seconds(self) -> float | None:
        """What all its rows, rejects too, take at that pace."""
        return None if self.rate is None else (self.rows + sum(self.rejects.values())) / self.rate

    @property
    def took(self) -> str:
        """The seconds in a unit that one can read."""
        seconds = self.seconds
        if seconds is None:
            return "–"
        return (
            f"{seconds:.0f} s"
            if seconds < 120
            else f"{seconds / 60:.0f} min"
            if seconds < 7200
            else (f"{seconds / 3600:.1f} h")
        )

    def costs(self, price_per_hour: float) -> str:
        """The seconds at a price, in the price's own currency."""
        return "–" if self.seconds is None else amount(self.seconds / 3600 * price_per_hour)


def amount(money: float) -> str:
    """Two digits behind the point; of less than one, two that count."""
    return f"{money:,.2f}" if money >= 1 or money == 0 else f"{money:.2g}"


def total(stages: Iterable[StageRow], price_per_hour: float) -> str:
    """Of the stages whose pace is known."""
    return amount(sum(row.seconds or 0.0 for row in stages) / 3600 * price_per_hour)


PAGE = 10  # pairs on one page
MOST_WORDS = 15  # kinds of instruction that stand alone; the others are one row
TOLD = {
    "best": ("Best pairs", "Accepted, the winner confirmed by the largest margins."),
    "borderline": ("Borderline pairs", "Accepted by the smallest margins: where labels are least sure."),
    "counter": (
        "Counter-edits",
        "Edits by instructions of other prompts' critiques, made to lose: the clearest first.",
    ),
    "reversed": (
        "Reversed pairs",
        "The edit made it worse: the rewards preferred the original, the worst edits first.",
    ),
    "dropped": ("Dropped pairs", "Not in the dataset: one reason after the other, picked by hash."),
}
# the curves that are drawn; all other numbers of a training stand in its table
CURVES: dict[str, tuple[str, ...]] = {
    "loss": ("loss",),
    "implicit accuracy": ("implicit_accuracy",),
    "logit, mean": ("logit_mean",),
    "advantage over the reference (train)": ("winner_advantage", "loser_advantage"),
    "denoising error (train)": ("winner_error", "loser_error"),
    "reward of its own pictures (train)": ("reward_mean",),
    "KL to the pretrained model (train)": ("reference_kl",),
    "gradient norm": ("grad_norm",),
}
Lines = dict[str, figures.Points]


@dataclass(frozen=True)
class Side:
    """One picture of a pair; `file` is None when it cannot be read."""

    label: str
    file: str | None
    won: bool
    small: bool = False
    critique: str = ""
    flaws: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """One pair; `outline` shows what changed in it, and `region` the share of the picture that did."""

    pair: Pair
    sides: tuple[Side, Side]
    outline: str | None = None
    region: float | None = None

    @property
    def outcome(self) -> str:
        return figures.outcome(self.pair.verdict, self.pair.reason)

    @property
    def verdict(self) -> str:
        return reason_in_words(self.pair.reason)

    @property
    def short(self) -> tuple[str, str]:
        """The sides in a table's head."""
        return ("Original", "Edit") if self.pair.pair_kind in EDITED else ("A", "B")

    def lead(self, margin: float | None) -> str:
        """Which side a margin speaks for, and by how much: a bare sign would have to be explained."""
        if margin is None or not math.isfinite(margin):
            return "–"
        return f"{self.short[margin > 0]} by {abs(margin):.2f}" if margin else "even"

    @property
    def rewards(self) -> list[tuple[str, float | None, float | None, float | None]]:
        """name, score of a, score of b, margin."""
        pair = self.pair
        names = sorted({*pair.rewards_a, *pair.rewards_b, *pair.margins})
        return [
            (name, pair.rewards_a.get(name), pair.rewards_b.get(name), pair.margins.get(name))
            for name in names
        ]


@dataclass(frozen=True)
class Training:
    """A training's numbers: split and measure → values over steps.

    seconds: of all its steps, without loading, encoding and validation; 0 where that is not known.
    """

    name: str
    finished: bool
    settings: Mapping[str, Any]
    values: Mapping[tuple[str, str], figures.Points]
    steps: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Provenance:
    """models: (role, name, revision); settings: (name, value, origin); prompts: (name, sha256, text)."""

    rpo: str
    preset: str
    notes: Sequence[str]
    models: Sequence[tuple[str, str, str]]
    versions: Mapping[str, str]
    settings: Sequence[tuple[str, str, str]]
    prompts: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Report:
    """All that the pages show; margins within ±min_margin were too close to call.

    price_per_hour: of the machine; None: nothing is told of money.
    selection: of the pairs that tally and cards hold; None: they are of all.
    """

    title: str
    prompts: int
    stages: Sequence[StageRow]
    tally: Tally
    aspects: Mapping[str, int]
    cards: Mapping[str, Sequence[Card]]
    trainings: Sequence[Training]
    provenance: Provenance
    min_margin: float = 0.0
    evaluations: Sequence[Evaluation] = ()
    reviews: Sequence[Table] = ()
    duplicates: Table | None = None
    aspect_scores: Table | None = None
    price_per_hour: float | None = None
    selection: Selection | None = None


def pages(report: Report) -> Iterator[tuple[str, str]]:
    """File name → text of every page; index.html last, so that a report that has one is whole."""
    sections = [(name, *TOLD[name], len(report.cards[name])) for name in SECTIONS if report.cards.get(name)]
    common = {"title": report.title, "sections": sections, "selection": report.selection}
    for name, heading, summary, count in sections:
        files = [page_name(name, number) for number in range(-(-count // PAGE))]
        for number, file in enumerate(files):
            cards = report.cards[name][number * PAGE : (number + 1) * PAGE]
            around = {"heading": heading, "summary": summary, "files": files, "number": number}
            yield file, render("pairs.html", cards=cards, count=count, **around, **common)
    for number, found in enumerate(report.evaluations):
        if found.grids:
            yield page_name("eval", number), render("eval.html", found=found, **common)
    yield (
        "index.html",
        render(
            "index.html",
            report=report,
            first=[(name, heading, report.cards[name][0]) for name, heading, _, _ in sections],
            funnel=funnel(report),
            in_words=reason_in_words,
            total=total,
            **_figures(report),
            **common,
        ),
    )


def page_name(section: str, number: int) -> str:
    return f"{section}-{number + 1}.html"


def reason_in_words(reason: str) -> str:
    """A verdict's reason in words."""
    return VERDICTS.get(reason, reason)


def funnel(report: Report) -> Markup:
    """From prompts to accepted pairs, one bar each."""
    tally, made = report.tally, {"generate": "pictures", "critique": "critiques", "edit": "edits"}
    rows = [("prompts", report.prompts)]
    rows += [(made[row.stage], row.rows) for row in report.stages if row.stage in made]
    that = " that match" if report.selection else ""
    rows += [(f"candidate pairs{that}", tally.pairs), (f"accepted pairs{that}", tally.count("accepted"))]
    return charts.bars(rows, title="Rows of every stage, from prompts to accepted pairs")


def _figures(report: Report) -> dict[str, Any]:
    tally = report.tally
    words = kinds(tally)
    aspects = sorted(report.aspects.items(), key=lambda item: (-item[1], item[0]))[:MOST_WORDS]
    return {
        "margins": _margins(tally, report.min_margin),
        "scores": _scores(tally),
        "agreement": tally.agreement(),
        "shares": sorted(tally.agreements.items(), reverse=True),
        "words": words,
        "word_chart": charts.bars(
            [(word, sum(counts.values())) for word, counts in words], title="Instructions by first word"
        ),
        "aspects": aspects,
        "aspect_chart": charts.bars(aspects, title="Flaws that critiques named, by aspect"),
        "curves": [(training, training_charts(training), ends(training)) for training in report.trainings],
    }


def _margins(tally: Tally, band: float) -> list[tuple[str, Markup, dict[str, float]]]:
    """name, histogram and numbers: the mean margin first, then every reward's."""
    marks = {-band: f"-{band:g}", band: f"+{band:g}"} if band else {0.0: "tie"}
    named = [("mean of all rewards", tally.margins), *sorted(tally.by_reward.items())]
    unit = "margin in standard deviations (right: b is better)"
    return [
        (
            name,
            charts.histogram(
                figures.margin_bins(values),
                title=f"Margins, {name}",
                unit=unit,
                marks=marks if values is tally.margins else {0.0: "tie"},
            ),
            figures.spread(values),
        )
        for name, values in named
        if len(values)
    ]


def _scores(tally: Tally) -> list[tuple[str, list[tuple[str, Markup, dict[str, float]]]]]:
    """Per reward one histogram of originals and one of edits, over the same range."""
    found = []
    for reward in sorted({name for name, _ in tally.scores}):
        groups = {
            f"{picture}s": tally.scores[reward, picture]
            for picture in ("original", "edit")
            if tally.scores.get((reward, picture))
        }
        rows = [
            (
                name,
                charts.histogram(bins, title=f"{reward}: {name}", unit=f"{reward} of {name}"),
                figures.spread(groups[name]),
            )
            for name, bins in figures.score_bins(groups).items()
        ]
        found.append((reward, rows))
    return found


def kinds(tally: Tally) -> list[tuple[str, dict[str, int]]]:
    """First word of the instruction → pairs won, reversed, dropped; the rare ones together at last."""
    ordered = sorted(tally.instructions.items(), key=lambda item: (-item[1].total(), item[0]))
    outcomes = ("won", "reversed", "dropped")
    rows = [(word, {name: counts[name] for name in outcomes}) for word, counts in ordered[:MOST_WORDS]]
    if rest := ordered[MOST_WORDS:]:
        together = {name: sum(counts[name] for _, counts in rest) for name in outcomes}
        rows.append((f"{len(rest):,} other words", together))
    return rows


def training_charts(training: Training) -> list[tuple[str, Markup]]:
    """The curves that this training has numbers for."""
    drawn = []
    for title, measures in CURVES.items():
        series: Lines = {
            (measure.partition("_")[0] if len(measures) > 1 else split): figures.thinned(points)
            for measure in measures
            for split in ("train", "validation")
            if (points := training.values.get((split, measure)))
            and (len(measures) == 1 or split == "train")
        }
        if series:
            drawn.append((title, charts.curves(series, title=f"{training.name}: {title}")))
    return drawn


def ends(training: Training) -> list[tuple[str, str, float, float]]:
    """split, measure, first and last value of every number of a training."""
    return [
        (split, measure, points[0][1], points[-1][1])
        for (split, measure), points in sorted(training.values.items())
    ]

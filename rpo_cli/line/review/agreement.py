"""What the verdicts of `rpo review` say: which of them stand, and how far reviewers and labels agree."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.line.dataset.inputs import rows_of
from rpo_cli.stages.verdicts import Row, Subject, picked, standing, subject
from rpo_cli.statistics import Interval, bootstrap_kappa, bootstrap_ratio, wilson
from rpo_cli.store import Store, open_store

PAIR_COLUMNS = (
    *("pair_id", "pair_kind", "prompt_id", "a_sha256", "b_sha256"),
    *("winner", "reason", "label", "margin"),
)


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] with its 95 % interval, and the number of cases it is of."""

    value: float
    low: float
    high: float
    cases: int


@dataclass(frozen=True)
class Reviewer:
    """One reviewer's verdicts.

    Attributes:
        judged: pairs, each once; `choices` counts what was said of them.
        consistent: share of the pairs shown twice, sides swapped, of which the same was said (Wilson).
        left: share of the preferred pictures that stood on the left; far from 1/2 is a habit (Wilson).
        agreement: kind of pair ("all" first) → share of preferences that are the label's, of pairs that
            have one now (bootstrap over prompts).
    """

    name: str
    judged: int
    choices: dict[str, int]
    consistent: Share | None
    left: Share | None
    agreement: dict[str, Share]


@dataclass(frozen=True)
class Kappa:
    """Two reviewers over the pairs that both judged: share of equal verdicts, and Cohen's kappa."""

    first: str
    second: str
    pairs: int
    same: float
    kappa: Share


@dataclass(frozen=True)
class ReviewSummary:
    reviewers: list[Reviewer]
    kappas: list[Kappa]


def summarise(path: str | Path) -> ReviewSummary:
    """Self-consistency, agreement with the labels and between reviewers.

    Raises:
        UsageError: no run, or nobody has judged a pair of it.
    """
    found = summary_of(open_store(path))
    if found is None:
        raise UsageError(f"{path}: no verdicts yet", f"rpo review {path}")
    return found


def summary_of(store: Store) -> ReviewSummary | None:
    """The same of an open run; None where nobody has judged a pair."""
    rows = standing(rows_of(store))
    if not rows:
        return None
    pairs = {subject(row): row for row in store.columns("pairs", PAIR_COLUMNS).to_pylist()}
    mine: dict[str, dict[bool, dict[Subject, Row]]] = defaultdict(lambda: {False: {}, True: {}})
    for row in rows:
        mine[row["reviewer"]][row["repeat"]][subject(row)] = row
    firsts = {name: shown[False] for name, shown in sorted(mine.items())}
    return ReviewSummary(
        [_reviewer(name, first, mine[name][True], pairs) for name, first in firsts.items()],
        [
            _kappa(one, two, firsts)
            for one, two in combinations(firsts, 2)
            if firsts[one].keys() & firsts[two]
        ],
    )


def _reviewer(
    name: str, first: dict[Subject, Row], again: dict[Subject, Row], pairs: dict[Subject, dict[str, Any]]
) -> Reviewer:
    choices = Counter(
        row["choice"] if row["choice"] in ("tie", "reject") else "side" for row in first.values()
    )
    both = [about for about in again if about in first]
    preferred = [row for row in (*first.values(), *again.values()) if row["choice"] in ("a", "b")]
    return Reviewer(
        name,
        len(first),
        dict(sorted(choices.items())),
        _share(sum(picked(first[about]) == picked(again[about]) for about in both), len(both)),
        _share(sum(row["choice"] == row["left"] for row in preferred), len(preferred)),
        _agreement(first, pairs),
    )


def _share(hits: int, total: int) -> Share | None:
    return Share(*wilson(hits, total), total) if total else None


def _agreement(first: dict[Subject, Row], pairs: dict[Subject, dict[str, Any]]) -> dict[str, Share]:
    """By kind of pair; verdicts on pairs that are gone or carry no label have no say."""
    found: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for about, row in first.items():
        pair = pairs.get(about)
        label = _label(pair) if pair else None
        if pair is None or label is None or row["choice"] not in ("a", "b"):
            continue
        case = (row["prompt_id"], picked(row) == pair[f"{label}_sha256"])
        for kind in ("all", pair["pair_kind"]):
            found[kind].append(case)
    return {kind: _clustered(cases) for kind, cases in sorted(found.items())}


def _label(pair: dict[str, Any]) -> str | None:
    """The side that wins without reviewers: they must not be compared with a label of their own."""
    if pair["winner"] is None and not pair["reason"].startswith("people_"):
        return None
    if pair["reason"] not in ("relabelled", "label_confirmed") and pair["label"] in ("a", "b"):
        return str(pair["label"])
    return None if pair["margin"] == 0 else "b" if pair["margin"] > 0 else "a"


def _clustered(cases: Iterable[tuple[str, bool]]) -> Share:
    parts, wholes = Counter[str](), Counter[str]()
    for prompt, hit in cases:
        parts[prompt] += hit
        wholes[prompt] += 1
    prompts = sorted(wholes)
    interval = bootstrap_ratio([parts[p] for p in prompts], [wholes[p] for p in prompts])
    return Share(*interval, wholes.total())


def _kappa(one: str, two: str, firsts: dict[str, dict[Subject, Row]]) -> Kappa:
    both = sorted(firsts[one].keys() & firsts[two].keys(), key=lambda about: (about[0], sorted(about[1])))
    said: list[Sequence[str]] = [
        [_word(firsts[name][about], about) for about in both] for name in (one, two)
    ]
    interval: Interval = bootstrap_kappa(said[0], said[1], [prompt for prompt, _ in both])
    same = sum(a == b for a, b in zip(*said, strict=True)) / len(both)
    return Kappa(one, two, len(both), same, Share(*interval, len(both)))


def _word(row: Row, about: Subject) -> str:
    """A verdict in words that do not depend on which side a pair's build calls a."""
    vote, names = picked(row), dict(zip(sorted(about[1]), ("one", "other"), strict=False))
    return names.get(vote, vote)

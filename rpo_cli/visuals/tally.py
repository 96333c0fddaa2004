"""What a report counts, and which pairs it shows: rows go in one after the other, only numbers stay."""

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from rpo_cli.records import EDITED
from rpo_cli.visuals.evaluated import Table

Points = Sequence[tuple[float, float]]

# the light columns of `pairs` that the figures and the choice of pairs look at
COLUMNS = (
    "pair_id",
    "prompt_id",
    "pair_kind",
    "a_sha256",
    "b_sha256",
    "instruction",
    "rewards_a",
    "rewards_b",
    "margins",
    "margin",
    "agreement",
    "verdict",
    "reason",
    "hash_distance",
    "duplicate_of",
)
# of perceptual hashes of 64 bits; the first are pictures that look the same
DISTANCES = ((0, 2), (3, 5), (6, 10), (11, 64))
REACH = 4.0  # margins beyond this many standard deviations count in the last bin
MARGIN_BINS, SCORE_BINS = 32, 24
CURVE_POINTS = 200
WORD = 24  # letters of an instruction's first word


class Bins(NamedTuple):
    """A histogram: counts[i] values in [edges[i], edges[i + 1]); the last bin holds its upper edge too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


class Agreement(NamedTuple):
    """Two rewards over the candidates that both scored with a difference.

    Attributes:
        same: share of those on which both prefer the same side.
        kappa: Cohen's kappa of those preferences, nan when one side always wins.
    """

    first: str
    second: str
    pairs: int
    same: float
    kappa: float


@dataclass
class Tally:
    """Sums over all rows of `pairs`; holds some 8 bytes per number and a hash per picture."""

    pairs: int = 0
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    margins: "array[float]" = field(default_factory=lambda: array("d"))
    agreements: Counter[float] = field(default_factory=Counter)
    by_reward: dict[str, "array[float]"] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    scores: dict[tuple[str, str], "array[float]"] = field(
        default_factory=lambda: defaultdict(lambda: array("d"))
    )
    signs: dict[tuple[str, str], Counter[tuple[bool, bool]]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    instructions: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    distances: Counter[tuple[int, int]] = field(default_factory=Counter)
    twins: int = 0  # pairs of the same two pictures of a prompt as another pair
    _seen: set[int] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one row, given as its COLUMNS."""
        self.pairs += 1
        self.outcomes[row["verdict"], row["reason"]] += 1
        self.kinds[row["pair_kind"]] += 1
        if row["reason"] != "corrupt_image":  # its pictures were never compared
            self.distances[next(band for band in DISTANCES if row["hash_distance"] <= band[1])] += 1
        self.twins += row["duplicate_of"] is not None
        if row["instruction"] and row["pair_kind"] != "counter":
            self.instructions[first_word(row["instruction"])][outcome(row["verdict"], row["reason"])] += 1
        self._scores(row)
        margins = {name: value for name, value in named(row["margins"]) if math.isfinite(value)}
        if not margins or not math.isfinite(row["margin"]):
            return
        self.margins.append(row["margin"])
        self.agreements[round(row["agreement"], 2)] += 1
        for name, value in margins.items():
            self.by_reward[name].append(value)
        for first, second in combinations(sorted(margins), 2):
            if margins[first] and margins[second]:
                self.signs[first, second][margins[first] > 0, margins[second] > 0] += 1

    def _scores(self, row: Mapping[str, Any]) -> None:
        """Each picture of a prompt counts once, in however many pairs it stands."""
        other = "edit" if row["pair_kind"] in EDITED else "original"
        for side, picture in (("a", "original"), ("b", other)):
            seen = hash((row[f"{side}_sha256"], row["prompt_id"]))
            if seen in self._seen:
                continue
            self._seen.add(seen)
            for name, value in named(row[f"rewards_{side}"]):
                if math.isfinite(value):
                    self.scores[name, picture].append(value)

    def count(self, verdict: str) -> int:
        return sum(count for (said, _), count in self.outcomes.items() if said == verdict)

    def reasons(self, verdict: str) -> dict[str, int]:
        """Reason → pairs, the most frequent first."""
        found = [(reason, count) for (said, reason), count in self.outcomes.items() if said == verdict]
        return dict(sorted(found, key=lambda item: (-item[1], item[0])))

    def agreement(self) -> list[Agreement]:
        return [
            Agreement(first, second, found.total(), *_sameness(found))
            for (first, second), found in sorted(self.signs.items())
        ]


def named(column: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, float]]:
    """The items of a dict column, which a table holds as a list of name and value."""
    return ((item["name"], item["value"]) for item in column)


def outcome(verdict: str, reason: str) -> str:
    """ "won", "reversed" or "dropped"."""
    if verdict == "dropped":
        return "dropped"
    return "reversed" if reason == "reversed" else "won"


def first_word(instruction: str) -> str:
    """What kind of edit an instruction asks for: its first word in lower case."""
    words = instruction.split()
    return words[0].strip(".,;:!?\"'").lower()[:WORD] if words else ""


def _sameness(found: Counter[tuple[bool, bool]]) -> tuple[float, float]:
    """Share of equal signs, and kappa (Cohen 1960)."""
    total = found.total()
    same = (found[True, True] + found[False, False]) / total
    first = (found[True, True] + found[True, False]) / total
    second = (found[True, True] + found[False, True]) / total
    chance = first * second + (1 - first) * (1 - second)
    return same, (same - chance) / (1 - chance) if chance < 1 else math.nan


def binned(values: Iterable[float], low: float, high: float, bins: int) -> Bins:
    """A histogram between two values; what lies beyond them counts in the outermost bins."""
    clipped = np.clip(np.fromiter(values, dtype=np.float64), low, high)
    counts, edges = np.histogram(clipped, bins=bins, range=(low, high))
    return Bins(tuple(edges.tolist()), tuple(counts.tolist()))


def margin_bins(values: Iterable[float]) -> Bins:
    return binned(values, -REACH, REACH, MARGIN_BINS)


def score_bins(groups: Mapping[str, Sequence[float]]) -> dict[str, Bins]:
    """One histogram per group, all over the same range."""
    every = [value for values in groups.values() for value in (min(values), max(values))]
    low, high = min(every), max(every)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return {name: binned(values, low, high, SCORE_BINS) for name, values in groups.items()}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Count, mean, standard deviation and quartiles, for the table beside a histogram."""
    numbers = np.asarray(values, dtype=np.float64)
    low, middle, high = np.quantile(numbers, [0.25, 0.5, 0.75]).tolist()
    return {
        "count": len(numbers),
        "mean": float(numbers.mean()),
        "sd": float(numbers.std()),
        "25 %": low,
        "median": middle,
        "75 %": high,
    }


def thinned(points: Points) -> Points:
    """At most CURVE_POINTS points: means over equal runs of neighbours."""
    if len(points) <= CURVE_POINTS:
        return points
    parts = np.array_split(np.asarray(points, dtype=np.float64), CURVE_POINTS)
    return [(float(x), float(y)) for x, y in (part.mean(axis=0) for part in parts)]


MARKS = (1, 2, 3, 4, 5)  # of a rubric: bad to good


def duplicates(tally: Tally, pictures: int, different: int) -> Table:
    """Equal pictures and pairs, and how alike the two pictures of a candidate are.

    Args:
        pictures: of the run, originals and edits; `different`: those among them that differ in a byte.
    """
    rows = [
        ("pictures", f"{pictures:,}"),
        ("of them equal to another", f"{pictures - different:,}"),
        ("candidates of the same two pictures as another", f"{tally.twins:,}"),
    ]
    rows += [
        (
            f"candidates whose pictures are {low} to {high} of 64 bits apart",
            f"{tally.distances[low, high]:,}",
        )
        for low, high in DISTANCES
    ]
    return Table("Duplicates: exact, and by the distance of perceptual hashes", 1, ("of", "count"), rows)


def aspect_scores(scores: Mapping[str, Counter[float]]) -> Table:
    """Aspect → how often each mark was given, and the mean; marks between two count with the nearer."""
    rows = []
    for aspect, found in sorted(scores.items()):
        marks: Counter[int] = Counter()
        for score, count in found.items():
            marks[min(max(round(score), MARKS[0]), MARKS[-1])] += count
        mean = sum(score * count for score, count in found.items()) / found.total()
        rows.append((aspect, f"{found.total():,}", f"{mean:.2f}", *(f"{marks[mark]:,}" for mark in MARKS)))
    head = ("aspect", "critiques", "mean", *map(str, MARKS))
    return Table("Scores of the critiques by aspect, from 1 (bad) to 5", 1, head, rows)


SECTIONS = ("best", "borderline", "counter", "reversed", "dropped")
Ranked = tuple[float, str]  # rank (the smallest is shown first) and pair_id


@dataclass
class Sampler:
    """Takes rows of `pairs` part by part and keeps at most a few hundred ids.

    best: won, by the size of the margin; borderline: won, by its smallness; counter: edits made to lose, by
    the size of the margin; reversed: the clearest first; dropped: one reason after the other, by pair_id,
    which is a hash: neither the best nor the worst.

    Attributes:
        limit: pairs of all sections together.
    """

    limit: int
    won: int = 0
    _kept: dict[str, list[Ranked]] = field(default_factory=lambda: defaultdict(list))
    _dropped: dict[str, list[Ranked]] = field(default_factory=lambda: defaultdict(list))

    @property
    def share(self) -> int:
        return max(1, self.limit // len(SECTIONS))

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        for row in rows:
            key, size = row["pair_id"], abs(row["margin"])
            kind = outcome(row["verdict"], row["reason"])
            if kind == "won" and row["pair_kind"] == "counter":
                self._kept["counter"].append((-size, key))
            elif kind == "won":
                self.won += 1
                self._kept["best"].append((-size, key))
                self._kept["borderline"].append((size, key))
            elif kind == "reversed":
                self._kept["reversed"].append((-size, key))
            else:
                self._dropped[row["reason"]].append((0.0, key))
        for found in (*self._kept.values(), *self._dropped.values()):
            found.sort()
            del found[self.share :]

    def chosen(self) -> dict[str, list[str]]:
        """Section → pair ids in the order they are shown; no pair stands in two sections."""
        best = self._kept["best"][: (self.won + 1) // 2]
        strong = {key for _, key in best}
        found = {
            "best": [key for _, key in best],
            "borderline": [key for _, key in self._kept["borderline"] if key not in strong],
            "counter": [key for _, key in self._kept["counter"]],
            "reversed": [key for _, key in self._kept["reversed"]],
            "dropped": self._by_reason(),
        }
        return {name: found[name] for name in SECTIONS}

    def _by_reason(self) -> list[str]:
        """First one of every reason, then the second of every reason, ..."""
        turns = [
            (turn, reason, key)
            for reason, found in self._dropped.items()
            for turn, (_, key) in enumerate(found)
        ]
        return [key for _, _, key in sorted(turns)[: self.share]]


@dataclass(frozen=True)
class Selection:
    """A filter in words, how many pairs match it, and how many the run has."""

    words: str
    matching: int
    total: int

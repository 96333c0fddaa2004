"""Scores of several rewards on one scale: margins, agreement, dispersion.

A reward's unit is its own, so a difference is divided by how much that reward varies between the seeds of
one prompt: a margin of 1 is what another seed would give or take. Or it is told by its place among the
differences between such seeds, as a win rate, to which no outlier and no scale matters.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from rpo_cli.errors import UsageError

# a spread below this share of the scores' size is rounding of float32, not variation
ROUNDING = 1e-6
EQUAL: Mapping[str, float] = MappingProxyType({})  # weights: all 1


class Scored(NamedTuple):
    """One row of `rewards`, in sorting order."""

    prompt_id: str
    sha256: str
    reward: str
    score: float


@dataclass(frozen=True)
class Scale:
    """The standard deviation that a reward's differences are divided by, > 0, and where it is from.

    Attributes:
        gaps: |differences| between two seeds of one prompt, sorted; given, margins are win rates.
    """

    sd: float
    basis: str
    gaps: tuple[float, ...] | None = None

    def margin(self, difference: float) -> float:
        """In standard deviations; with `gaps` 2w - 1 in [-1, 1], odd in the difference.

        w is how often a difference between two seeds is the smaller one (a tie counts half): the empirical
        form of the win rate mean(sigmoid(R_i - R_j)) that CaPO (Lee et al. 2025, arXiv:2502.02588)
        calibrates rewards to.
        """
        if self.gaps is None:
            return difference / self.sd
        below, upto = bisect_left(self.gaps, abs(difference)), bisect_right(self.gaps, abs(difference))
        return _sign(difference) * (below + upto) / (2 * len(self.gaps))


@dataclass(frozen=True)
class Scores:
    """All scores of a run: (prompt_id, sha256 of the picture) → reward → score."""

    rewards: tuple[str, ...]
    table: Mapping[tuple[str, str], Mapping[str, float]]

    @classmethod
    def of(cls, rows: Iterable[Scored]) -> "Scores":
        """Sorted first, so that a picture scored twice gives one and the same answer in any order."""
        table: dict[tuple[str, str], dict[str, float]] = {}
        names: set[str] = set()
        for row in sorted(rows):
            table.setdefault((row.prompt_id, row.sha256), {})[row.reward] = row.score
            names.add(row.reward)
        return cls(tuple(sorted(names)), table)

    def get(self, prompt_id: str, sha256: str) -> dict[str, float]:
        """Scores of one picture; a reward that did not score it is absent."""
        return dict(self.table.get((prompt_id, sha256), {}))

    def complete(self, scores: Mapping[str, float]) -> bool:
        """True when there are rewards and every one of them is in `scores`."""
        return bool(self.rewards) and len(scores) == len(self.rewards)


@dataclass
class Spread:
    """How the scores of one reward vary, told prompt by prompt; 8 bytes a score."""

    variances: "array[float]" = field(default_factory=lambda: array("d"))
    images: "array[float]" = field(default_factory=lambda: array("d"))
    everything: "array[float]" = field(default_factory=lambda: array("d"))
    gaps: "array[float]" = field(default_factory=lambda: array("d"))

    def add(self, reward: str, scores: Scores, seeds: Mapping[str, Sequence[str]], *, gaps: bool) -> None:
        self.everything.extend(
            found[reward] for _, found in sorted(scores.table.items()) if reward in found
        )
        for prompt in sorted(seeds):
            values = _scored(reward, scores, prompt, sorted(seeds[prompt]))
            self.images.extend(values)
            if len(values) >= 2:
                self.variances.append(float(np.var(values, ddof=1)))
            if gaps:
                self.gaps.extend(_gaps(_scored(reward, scores, prompt, sorted(set(seeds[prompt])))))

    def scale(self) -> Scale:
        floor = ROUNDING * max(map(abs, self.everything), default=0.0)
        if self.variances and (sd := math.sqrt(math.fsum(self.variances) / len(self.variances))) > floor:
            return Scale(sd, "seeds of one prompt")
        for values, basis in ((self.images, "all images"), (self.everything, "all pictures")):
            if len(values) >= 2 and (sd := float(np.std(values, ddof=1))) > floor:
                return Scale(sd, basis)
        return Scale(1.0, "nothing differs")


def _scored(reward: str, scores: Scores, prompt: str, pictures: Iterable[str]) -> list[float]:
    found = (scores.get(prompt, sha).get(reward) for sha in pictures)
    return [value for value in found if value is not None]


def _gaps(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return []
    found = np.array(values)
    first, second = np.triu_indices(len(found), k=1)
    gaps: list[float] = np.abs(found[first] - found[second]).tolist()
    return gaps


Seeds = Mapping[str, Sequence[str]]


def scales(found: Iterable[tuple[Scores, Seeds]], *, calibrated: bool = False) -> dict[str, Scale]:
    """Each reward's scale: the root mean of its variances (n - 1) over the seeds of each prompt.

    Where no prompt has two scored images, or they never differ, the scale falls back on the standard
    deviation over all images (which holds the spread between prompts too, so margins come out smaller),
    then over all scored pictures, then on 1 (nothing differs at all).

    Args:
        found: scores of some prompts at a time, in the order of their ids, with prompt_id → hashes of its
            generated images, one per seed.
        calibrated: with the gaps between the seeds of each prompt.

    Raises:
        UsageError: a reward has not scored two seeds of any prompt, so that nothing is known of its gaps.
    """
    spreads: dict[str, Spread] = defaultdict(Spread)
    for scores, seeds in found:
        for reward in scores.rewards:
            spreads[reward].add(reward, scores, seeds, gaps=calibrated)
    told = {reward: spreads[reward].scale() for reward in sorted(spreads)}
    if not calibrated:
        return told
    return {reward: replace(scale, gaps=_known(reward, spreads[reward])) for reward, scale in told.items()}


def _known(reward: str, spread: Spread) -> tuple[float, ...]:
    if not spread.gaps:
        raise UsageError(
            f"pairs.calibration: '{reward}' has scored no two images of one prompt, which win rates need",
            "generate 2 or more images of a prompt, or leave pairs.calibration at sd",
        )
    return tuple(sorted(spread.gaps))


@dataclass(frozen=True)
class Margin:
    """How much better b is than a: per reward, as a mean, and the share of rewards of the mean's sign.

    Attributes:
        silent: rewards of weight 0, which have no say in anything.
    """

    margins: dict[str, float]
    margin: float
    agreement: float
    silent: frozenset[str] = frozenset()

    def pareto(self, least: float) -> int:
        """1: b wins, -1: a wins, 0: neither does.

        A side wins when some reward prefers it by `least` or more and no reward prefers the other at all.
        """
        said = [value for name, value in self.margins.items() if name not in self.silent and value != 0]
        signs = {_sign(value) for value in said}
        return signs.pop() if len(signs) == 1 and max(map(abs, said)) >= least else 0

    @property
    def torn(self) -> bool:
        """Whether one reward prefers a and another b."""
        signs = {_sign(value) for name, value in self.margins.items() if name not in self.silent}
        return {1, -1} <= signs


def compare(
    a: Mapping[str, float],
    b: Mapping[str, float],
    scale: Mapping[str, Scale],
    weights: Mapping[str, float] = EQUAL,
) -> Margin:
    """b - a on its scale for every reward that both sides have; none in common: 0 with agreement 0.

    Args:
        weights: reward → weight in the mean and in the agreement, >= 0; 1 where none is given.
    """
    margins = {name: scale[name].margin(b[name] - a[name]) for name in sorted(a) if name in b}
    shares = {name: weights.get(name, 1.0) for name in margins}
    total = math.fsum(shares.values())
    silent = frozenset(name for name, share in shares.items() if share == 0)
    if total == 0:
        return Margin(margins, 0.0, 0.0, silent)
    mean = math.fsum(shares[name] * margin for name, margin in margins.items()) / total
    agreeing = math.fsum(shares[name] for name in margins if _sign(margins[name]) == _sign(mean))
    return Margin(margins, mean, agreeing / total, silent)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def standings(
    pictures: Sequence[Mapping[str, float]],
    scale: Mapping[str, Scale],
    weights: Mapping[str, float] = EQUAL,
) -> list[float]:
    """Each picture's place among those of its prompt: the mean of its scores, each over its scale.

    With win rates: the mean of its margins over the other pictures, as CaPO ranks them.

    Args:
        pictures: scores of each picture, all with the same rewards.
    """
    if any(found.gaps is not None for found in scale.values()):
        return [
            math.fsum(compare(other, one, scale, weights).margin for other in pictures) / len(pictures)
            for one in pictures
        ]
    return [_standing(scores, scale, weights) for scores in pictures]


def _standing(
    scores: Mapping[str, float], scale: Mapping[str, Scale], weights: Mapping[str, float]
) -> float:
    total = math.fsum(weights.get(name, 1.0) for name in scores)
    said = (weights.get(name, 1.0) * (score / scale[name].sd) for name, score in scores.items())
    return math.fsum(said) / total if total else 0.0


def dispersion(pictures: Sequence[Mapping[str, float]], scale: Mapping[str, Scale]) -> float | None:
    """How little the rewards can tell the images of one prompt apart, in [0, 1]; 1 is a coin flip.

    For images i < j, p_ij is the mean over rewards of sigmoid((R_i - R_j) / sd); the dispersion is the
    mean over pairs of the binary entropy of p_ij in bits. After Mallows-DPO (Chen et al. 2024,
    2405.14953), carried over to judges of images.

    Args:
        pictures: scores of each image of the prompt, all with the same rewards.

    Returns:
        None with fewer than two images or two rewards: one judge cannot disagree.
    """
    names = sorted(scale)
    if len(pictures) < 2 or len(names) < 2:
        return None
    values = np.array([[scores[name] / scale[name].sd for name in names] for scores in pictures])
    values = values[np.lexsort(values.T)]  # the sum below rounds by order, and order must not count
    first, second = np.triu_indices(len(values), k=1)
    gaps = np.clip(values[first] - values[second], -500, 500)  # beyond, exp overflows
    p = np.mean(1 / (1 + np.exp(-gaps)), axis=1)
    p = np.clip(p, 1e-300, 1 - 1e-16)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return float(np.clip(np.mean(entropy), 0, 1))

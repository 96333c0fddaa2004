"""Scores of several rewards on one scale: margins, agreement, dispersion.

A reward's unit is its own, so a difference is divided by how much that reward varies between the seeds of
one prompt: a margin of 1 is what another seed would give or take.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# a spread below this share of the scores' size is rounding of float32, not variation
ROUNDING = 1e-6


class Scored(NamedTuple):
    """One row of `rewards`, in sorting order."""

    prompt_id: str
    sha256: str
    reward: str
    score: float


@dataclass(frozen=True)
class Scale:
    """The standard deviation that a reward's differences are divided by, > 0, and where it is from."""

    sd: float
    basis: str


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


def scales(scores: Scores, seeds: Mapping[str, Sequence[str]]) -> dict[str, Scale]:
    """Each reward's scale: the root mean of its variances (n - 1) over the seeds of each prompt.

    Where no prompt has two scored images, or they never differ, the scale falls back on the standard
    deviation over all images (which holds the spread between prompts too, so margins come out smaller),
    then over all scored pictures, then on 1 (nothing differs at all).

    Args:
        seeds: prompt_id → hashes of its generated images, one per seed.
    """
    return {reward: _scale(reward, scores, seeds) for reward in scores.rewards}


def _scale(reward: str, scores: Scores, seeds: Mapping[str, Sequence[str]]) -> Scale:
    by_prompt = [
        [
            value
            for sha in sorted(seeds[prompt])
            if (value := scores.get(prompt, sha).get(reward)) is not None
        ]
        for prompt in sorted(seeds)
    ]
    images = [value for values in by_prompt for value in values]
    everything = [found[reward] for _, found in sorted(scores.table.items()) if reward in found]
    variances = [float(np.var(values, ddof=1)) for values in by_prompt if len(values) >= 2]
    floor = ROUNDING * max(map(abs, everything), default=0.0)
    if variances and (sd := math.sqrt(math.fsum(variances) / len(variances))) > floor:
        return Scale(sd, "seeds of one prompt")
    for values, basis in ((images, "all images"), (everything, "all pictures")):
        if len(values) >= 2 and (sd := float(np.std(values, ddof=1))) > floor:
            return Scale(sd, basis)
    return Scale(1.0, "nothing differs")


@dataclass(frozen=True)
class Margin:
    """How much better b is than a: per reward, as a mean, and the share of rewards of the mean's sign."""

    margins: dict[str, float]
    margin: float
    agreement: float


def compare(a: Mapping[str, float], b: Mapping[str, float], scale: Mapping[str, Scale]) -> Margin:
    """(b - a) / sd for every reward that both sides have; nothing in common gives 0 with agreement 0."""
    margins = {name: (b[name] - a[name]) / scale[name].sd for name in sorted(a) if name in b}
    if not margins:
        return Margin({}, 0.0, 0.0)
    mean = math.fsum(margins.values()) / len(margins)
    agreeing = sum(_sign(margin) == _sign(mean) for margin in margins.values())
    return Margin(margins, mean, agreeing / len(margins))


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def standing(scores: Mapping[str, float], scale: Mapping[str, Scale]) -> float:
    """A picture's place among those of its prompt: the mean of its scores, each over its scale."""
    return math.fsum(score / scale[name].sd for name, score in scores.items()) / len(scores)


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

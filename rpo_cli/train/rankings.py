"""Pairs → ranked lists of one prompt's pictures, from the rewards that the dataset carries."""

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev

from rpo_cli.errors import UsageError
from rpo_cli.train.data.pairs import BASE, TrainingPair, read_pairs, rows_of
from rpo_cli.train.data.singles import Single, read_singles
from rpo_cli.train.objectives.objective import Objective

Scores = Mapping[str, float]


@dataclass(frozen=True)
class Ranking:
    """K pictures of one prompt by the SHA-256 of their bytes, the best first, and their gains in [0, 1]."""

    pictures: tuple[str, ...]
    caption: str
    gains: tuple[float, ...]


Item = TrainingPair | Ranking | Single


def read_rankings(dataset: Path, split: str, size: int) -> list[Ranking]:
    """Lists of `size` pictures; a prompt with n of them gives n // size lists, and no picture comes twice.

    Raises:
        UsageError: a column is missing, a picture has no rewards, or no prompt has `size` pictures.
    """
    prompts: dict[str, dict[str, Scores]] = defaultdict(dict)
    for row, where in rows_of(dataset, split, (*BASE, "rewards_0", "rewards_1")):
        for side in (0, 1):
            scores = {
                name: value for name, value in (row[f"rewards_{side}"] or {}).items() if value is not None
            }
            if not scores:
                raise UsageError(
                    f"{where}: rewards_{side} is empty", "rank pictures that a reward has scored"
                )
            prompts[row["caption"] or ""][hashlib.sha256(row[f"jpg_{side}"]).hexdigest()] = scores
    ranked = {caption: rank(found) for caption, found in sorted(prompts.items())}
    most = max(map(len, ranked.values()), default=0)
    if split == "train" and most < size:
        raise UsageError(
            f"{dataset}: no prompt has {size} pictures of different standing, the most is {most}",
            f"--set train.list_size={most}" if most > 1 else "use a method for pairs",
        )
    return [item for caption, found in ranked.items() for item in _lists(caption, found, size)]


def read_items(dataset: Path, split: str, objective: Objective) -> Sequence[Item]:
    """What an objective trains on: pairs with the columns it asks for, lists, or single pictures.

    Raises:
        UsageError: see `read_pairs`, `read_rankings` and `read_singles`.
    """
    if objective.singles:
        return read_singles(dataset, split)
    if objective.listwise:
        return read_rankings(dataset, split, objective.list_size)
    return read_pairs(dataset, split, objective.columns)


def rank(pictures: Mapping[str, Scores]) -> list[tuple[str, float]]:
    """(picture, gain) from best to worst; of pictures that nothing tells apart only one stays.

    The gain is the share of other pictures beaten, averaged over the rewards that all pictures have (a
    tie counts half). Equal gains are told apart by the mean score in standard deviations.
    """
    names = sorted(set.intersection(*(set(scores) for scores in pictures.values())))
    others = max(1, len(pictures) - 1)
    spread = {name: pstdev([scores[name] for scores in pictures.values()]) or 1.0 for name in names}

    def gain(scores: Scores) -> float:
        won = [
            (scores[name] > other[name]) + 0.5 * (scores[name] == other[name])
            for name in names
            for other in pictures.values()
        ]
        return (math.fsum(won) / max(1, len(names)) - 0.5) / others  # a picture ties with itself

    keys = {
        picture: (gain(scores), math.fsum(scores[name] / spread[name] for name in names))
        for picture, scores in sorted(pictures.items())
    }
    distinct = {key: picture for picture, key in reversed(keys.items())}
    return [(distinct[key], key[0]) for key in sorted(distinct, reverse=True)]


def _lists(caption: str, ranked: Sequence[tuple[str, float]], size: int) -> list[Ranking]:
    """Every list spans the whole range: list j takes ranks j, j + m, j + 2m, ..."""
    count = len(ranked) // size
    lists = [[ranked[j + count * i] for i in range(size)] for j in range(count)]
    return [
        Ranking(tuple(picture for picture, _ in found), caption, tuple(gain for _, gain in found))
        for found in lists
    ]

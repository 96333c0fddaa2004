"""Ranks of several pictures as judgements of every two of them."""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from rpo_cli.exchange.incoming import BadRow, Choice, Vote


def rank_votes(ranks: Sequence[Any], count: int) -> Iterator[Vote]:
    """A vote for each two pictures; equal ranks are a tie, 1 is best.

    Raises:
        BadRow: another number of ranks than pictures, or a rank that is no number.
    """
    numbers = all(type(rank) in (int, float) and math.isfinite(rank) for rank in ranks)
    if len(ranks) != count or not numbers:
        raise BadRow("bad_label", f"{count} pictures and ranks {ranks!r:.100}")
    for a, b in combinations(range(count), 2):
        choice: Choice = "tie" if ranks[a] == ranks[b] else "a" if ranks[a] < ranks[b] else "b"
        yield Vote(a, b, choice)

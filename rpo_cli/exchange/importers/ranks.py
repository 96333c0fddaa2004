"""Ranks of several pictures as judgements of every two of them."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

from rpo_cli.exchange.importers.labels import number
from rpo_cli.exchange.incoming import BadRow, Choice, Vote


def rank_votes(ranks: Sequence[Any], count: int) -> Iterator[Vote]:
    """A vote for each two pictures; equal ranks are a tie, 1 is best.

    Raises:
        BadRow: another number of ranks than pictures, or a rank that is no number.
    """
    places = [found for rank in ranks if (found := number(rank)) is not None]
    if not len(places) == len(ranks) == count:
        raise BadRow("bad_label", f"{count} pictures and ranks {ranks!r:.100}")
    for a, b in combinations(range(count), 2):
        choice: Choice = "tie" if places[a] == places[b] else "a" if places[a] < places[b] else "b"
        yield Vote(a, b, choice)

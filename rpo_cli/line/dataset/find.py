"""pairs: the candidate pairs of a run that a filter asks for, accepted or not."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any

from rpo_cli.errors import UsageError, nearest
from rpo_cli.line.dataset.contact_sheet import draw_pairs, refuse_unwritable
from rpo_cli.line.dataset.pair_filter import Flaws, PairFilter, Sift
from rpo_cli.line.show import KINDS
from rpo_cli.records import Pair
from rpo_cli.store import Store, open_store
from rpo_cli.visuals.tally import named

SHORT = 8  # letters of an id that is told
ON_A_SHEET = 100  # pairs: a picture of 27,000 lines
FOOT_TEXT = 80  # letters of the filter below a sheet, beside what a margin is
Margin = float | None
# order → key of a margin, a prompt and an id; pairs without a margin come last
ORDERS: dict[str, Callable[[Margin, str, str], Any]] = {
    "id": lambda margin, prompt, key: key,
    "margin": lambda margin, prompt, key: (margin is None, -(margin or 0.0), key),
    "-margin": lambda margin, prompt, key: (margin is None, margin or 0.0, key),
    "prompt": lambda margin, prompt, key: (prompt.casefold(), key),
}


@dataclass(frozen=True)
class FoundPair:
    """A pair, with a beginning of its id that no other row of the run has.

    Attributes:
        margin: that the filter means; None: the pair has none.
        flaws: that its critique names, as "aspect: detail".
    """

    id: str
    pair: Pair
    margin: float | None
    flaws: tuple[str, ...]

    @property
    def why(self) -> str:
        """The first flaw, or what was asked for."""
        return self.flaws[0] if self.flaws else self.pair.instruction or ""


@dataclass(frozen=True)
class Found:
    """The first pairs in the order that was asked for.

    Attributes:
        matching: how many pairs the filter asks for, of `total` in the run.
        sheet: file that was asked for; it is made when a pair is drawn.
        drawn: pairs on the sheet; those with a picture that cannot be read are not.
    """

    path: str
    asked: PairFilter
    sort: str
    total: int
    matching: int
    pairs: Sequence[FoundPair]
    sheet: Path | None = None
    drawn: int = 0


def find(
    path: str | Path,
    asked: PairFilter,
    *,
    sort: str = "id",
    limit: int | None = None,
    sheet: Path | None = None,
) -> Found:
    """Find pairs of a run; reads no picture unless for a sheet.

    Args:
        sort: "id" (a hash: neither the best nor the worst first), "margin" (the largest first), "-margin"
            or "prompt".
        limit: pairs at most; None: all.
        sheet: PNG file to draw the pairs on.

    Raises:
        UsageError: no run, no pairs yet, an unknown name, or more pairs than a sheet holds.
        StorageError: the sheet cannot be written.
    """
    if sort not in ORDERS:
        raise UsageError(
            f"--sort {sort}: no order{nearest(sort, list(ORDERS))}", f"one of {', '.join(ORDERS)}"
        )
    store = open_store(path)
    if sheet is not None:
        refuse_unwritable(sheet)
    total, ranked = _ranked(store, asked, ORDERS[sort])
    if not total:
        raise UsageError(f"{path}: no pairs yet", f"rpo build-pairs {path}")
    chosen = ranked[:limit]
    if sheet is not None and len(chosen) > ON_A_SHEET:
        raise UsageError(
            f"{sheet}: {len(chosen):,} pairs; a sheet holds {ON_A_SHEET}",
            f"--limit {ON_A_SHEET}, or a filter",
        )
    pairs = _told(store, asked, chosen)
    found = Found(str(path), asked, sort, total, len(ranked), pairs, sheet)
    return found if sheet is None else replace(found, drawn=_drawn(store, found, sheet))


def _drawn(store: Store, found: Found, sheet: Path) -> int:
    """Draw the pairs that were found; returns how many are on the sheet, which is not made for none."""
    words = ", ".join(filter(None, (found.asked.said, f"by {found.sort}")))
    return draw_pairs(
        store,
        [item.pair.pair_id for item in found.pairs],
        sheet,
        title=Path(found.path).resolve().name,
        counts={
            "pairs shown": len(found.pairs),
            "pairs match": found.matching,
            "pairs in all": found.total,
        },
        picked=shorten(f"Pairs: {words}.", FOOT_TEXT, placeholder=" …"),
    )


def _ranked(
    store: Store, asked: PairFilter, order: Callable[[Margin, str, str], Any]
) -> tuple[int, list[str]]:
    """How many pairs there are, and the ids of those that match, in order."""
    sift = Sift(store, asked)
    found = []
    for row in chain.from_iterable(sift.rows()):
        margin = asked.margin(dict(named(row["margins"])), row["margin"])
        found.append((order(margin, row["prompt"], row["pair_id"]), row["pair_id"]))
    return sift.total, [key for _, key in sorted(found)]


def _told(store: Store, asked: PairFilter, chosen: Sequence[str]) -> list[FoundPair]:
    """The chosen pairs in that order; those that another rpo has built away meanwhile are left out."""
    rows = {row.key: row for row in store.fetch("pairs", chosen) if isinstance(row, Pair)}
    flaws, ids = Flaws(store), short_ids(store, rows)
    return [
        FoundPair(ids[key], pair, asked.margin(pair.margins, pair.margin), flaws.of(vars(pair)))
        for key in chosen
        if (pair := rows.get(key)) is not None
    ]


def short_ids(store: Store, keys: Collection[str]) -> dict[str, str]:
    """Id → its shortest beginning, of at least eight letters, by which `rpo show` finds that row alone."""
    starts = {key[:SHORT] for key in keys}
    alike: dict[str, list[str]] = defaultdict(list)
    for table in KINDS:
        for key in store.keys(table):
            if key[:SHORT] in starts:
                alike[key[:SHORT]].append(key)
    return {key: _shortest(key, alike[key[:SHORT]]) for key in keys}


def _shortest(key: str, alike: Sequence[str]) -> str:
    others = [other for other in alike if other != key]
    lengths = range(SHORT, len(key))
    return next((key[:n] for n in lengths if not any(other.startswith(key[:n]) for other in others)), key)

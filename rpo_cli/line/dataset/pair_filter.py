"""Which pairs a user asks for: one filter for `rpo pairs` and `rpo report`, and the pairs it finds."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import nsmallest
from itertools import chain
from pathlib import Path
from textwrap import shorten
from typing import Any, get_args

from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.card import REASONS
from rpo_cli.line.dataset.contact_sheet import draw_pairs, refuse_unwritable
from rpo_cli.line.show import kinds
from rpo_cli.records import Pair
from rpo_cli.store import Store, open_store
from rpo_cli.visuals.tally import named

PAIR_KINDS: tuple[str, ...] = get_args(Pair.model_fields["pair_kind"].annotation)
VERDICTS: tuple[str, ...] = get_args(Pair.model_fields["verdict"].annotation)
# what the filter looks at, and what names a pair's critiques
COLUMNS = (
    *("pair_id", "prompt_id", "prompt", "pair_kind", "a_sha256", "b_sha256", "critique_id"),
    *("instruction", "margins", "margin", "verdict", "reason"),
)
SAID = ("critique_id", "prompt_id", "image_sha256", "flaws")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class PairFilter:
    """What is asked of a pair, over light columns of `pairs`; all of it must hold.

    A margin is side b's lead over side a: of `reward`, or the mean of all rewards.

    Attributes:
        prompt: part of its prompt, in any case; "": any.
        flaw: part of a flaw that its critique names, or of its instruction, in any case; "": any.
        reward: that must have compared its pictures.
        gate: that dropped it; or a verdict (accepted, dropped), or why it was accepted (reversed, ...).

    Raises:
        UsageError: no such kind of pair, or bounds between which there is no margin.
    """

    prompt: str = ""
    flaw: str = ""
    kind: str | None = None
    reward: str | None = None
    margin_below: float | None = None
    margin_above: float | None = None
    gate: str | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in PAIR_KINDS:
            raise UsageError(
                f"--kind {self.kind}: no kind of pair{nearest(self.kind, PAIR_KINDS)}",
                f"one of {', '.join(PAIR_KINDS)}",
            )
        below, above = self.margin_below, self.margin_above
        for name, bound in (("below", below), ("above", above)):
            if bound is not None and math.isnan(bound):
                raise UsageError(f"--margin-{name} nan: no number", "for example 0.5; below 0 side a leads")
        if below is not None and above is not None and above >= below:
            raise UsageError(f"no margin is above {above:g} and below {below:g}", "swap the two bounds")

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return self != PairFilter()

    @property
    def words(self) -> str:
        """The filter in words; "" when nothing is asked."""
        bounds = [("above", self.margin_above), ("below", self.margin_below)]
        margins = " and ".join(f"{name} {bound:g}" for name, bound in bounds if bound is not None)
        whose = f"margin of {self.reward}" if self.reward is not None else "margin"
        parts = [f"prompt has '{self.prompt}'"] if self.prompt else []
        parts += [f"flaw or instruction has '{self.flaw}'"] if self.flaw else []
        parts += [f"kind {self.kind}"] if self.kind is not None else []
        parts += [f"{whose} {margins}" if margins else f"scored by {self.reward}"] if self._measures else []
        parts += [f"gate {self.gate}"] if self.gate is not None else []
        return ", ".join(parts)

    @property
    def _measures(self) -> bool:
        return (self.reward, self.margin_below, self.margin_above) != (None, None, None)

    def margin(self, margins: Mapping[str, float], mean: float) -> float | None:
        """The margin that is meant, of a pair's margins by reward and their mean; None: it has none."""
        value = margins.get(self.reward) if self.reward is not None else (mean if margins else None)
        return value if value is not None and math.isfinite(value) else None

    def matches(self, row: Row, flaws: Sequence[str] = ()) -> bool:
        """Whether a row of `pairs`, given as its COLUMNS, is asked for.

        Args:
            flaws: of its critique; looked at only where a flaw is asked for.
        """
        return (
            self.kind in (None, row["pair_kind"])
            and self.gate in (None, row["verdict"], row["reason"])
            and self.prompt.casefold() in row["prompt"].casefold()
            and (
                not self._measures or self._within(self.margin(dict(named(row["margins"])), row["margin"]))
            )
            and (not self.flaw or self._names(*flaws, row["instruction"] or ""))
        )

    def _within(self, margin: float | None) -> bool:
        return (
            margin is not None
            and (self.margin_below is None or margin < self.margin_below)
            and (self.margin_above is None or margin > self.margin_above)
        )

    def _names(self, *texts: str) -> bool:
        return any(self.flaw.casefold() in text.casefold() for text in texts)

    def refuse_unknown(self, rewards: Collection[str], reasons: Collection[str]) -> None:
        """See that there are such a reward and such a gate.

        Args:
            rewards: that have compared pictures of the run.
            reasons: of its pairs; those that we know are known though no pair has them.

        Raises:
            UsageError: tells the known ones.
        """
        if self.reward is not None and self.reward not in rewards:
            known = sorted(rewards)
            raise UsageError(
                f"--reward {self.reward}: no pair here has its margin{nearest(self.reward, known)}",
                f"one of {', '.join(known)}" if known else "leave it out: no reward has compared pictures",
            )
        gates = [*VERDICTS, *sorted({*REASONS, *reasons})]
        if self.gate is not None and self.gate not in gates:
            raise UsageError(
                f"--gate {self.gate}: no gate{nearest(self.gate, gates)}",
                f"this run has {', '.join([*VERDICTS, *sorted(reasons)])}",
            )


class Flaws:
    """What critiques say of pairs, as "aspect: detail"; read from the run at the first question."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, row: Row) -> tuple[str, ...]:
        """The flaws that the critique names which asked for the edit.

        Where no edit was asked for (pairs of seeds, imported ones) those of either picture. A counter-edit
        answers no critique of its picture, so it has none.
        """
        asked, pictures = self._flaws
        if row["critique_id"]:
            return asked.get(row["critique_id"], ())
        if row["pair_kind"] == "counter":
            return ()
        sides = [(row["prompt_id"], row[f"{side}_sha256"]) for side in "ab"]
        return tuple(dict.fromkeys(flaw for side in sides for flaw in pictures.get(side, ())))

    @cached_property
    def _flaws(self) -> tuple[dict[str, tuple[str, ...]], dict[tuple[str, str], tuple[str, ...]]]:
        """Flaws by critique and by picture; of several critiques of a picture one of today's settings."""
        today = self._store.read_manifest().get("groups", {}).get("critique")
        asked: dict[str, tuple[str, ...]] = {}
        pictures: dict[tuple[str, str], tuple[str, ...]] = {}
        for group in sorted(self._store.counts("critiques"), key=lambda group: (group == today, group)):
            for part in self._store.scan("critiques", SAID, group=group):
                for row in part.to_pylist():
                    flaws = tuple(f"{flaw['aspect']}: {flaw['detail']}" for flaw in row["flaws"])
                    asked[row["critique_id"]] = flaws
                    pictures[row["prompt_id"], row["image_sha256"]] = flaws
        return asked, pictures


@dataclass
class Sift:
    """Goes through a run's pairs once; `total` counts those that were looked at."""

    store: Store
    asked: PairFilter
    total: int = 0
    _rewards: set[str] = field(default_factory=set)
    _reasons: set[str] = field(default_factory=set)

    def rows(self, columns: Sequence[str] = ()) -> Iterator[list[dict[str, Any]]]:
        """The rows that match, batch by batch, with these columns beside COLUMNS.

        Raises:
            UsageError: at the end, when no pair has the reward, or nothing has the gate, that was named.
        """
        flaws, wanted = Flaws(self.store), list(dict.fromkeys((*COLUMNS, *columns)))
        for part in self.store.scan("pairs", wanted):
            for batch in part.to_batches(max_chunksize=2048):
                rows = batch.to_pylist()
                self.total += len(rows)
                self._rewards.update(name for row in rows for name, _ in named(row["margins"]))
                self._reasons.update(row["reason"] for row in rows)
                said = flaws.of if self.asked.flaw else _nothing
                yield [row for row in rows if self.asked.matches(row, said(row))]
        if self.total:
            self.asked.refuse_unknown(self._rewards, self._reasons)


def _nothing(row: Row) -> tuple[str, ...]:
    return ()


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
    total, matching, chosen = _ranked(store, asked, ORDERS[sort], limit)
    if not total:
        raise UsageError(f"{path}: no pairs yet", f"rpo build-pairs {path}")
    if sheet is not None and len(chosen) > ON_A_SHEET:
        raise UsageError(
            f"{sheet}: {len(chosen):,} pairs; a sheet holds {ON_A_SHEET}",
            f"--limit {ON_A_SHEET}, or a filter",
        )
    pairs = _found_pairs(store, asked, chosen)
    found = Found(str(path), asked, sort, total, matching, pairs, sheet)
    return found if sheet is None else replace(found, drawn=_drawn(store, found, sheet))


def _drawn(store: Store, found: Found, sheet: Path) -> int:
    """Draw the pairs that were found; returns how many are on the sheet, which is not made for none."""
    words = ", ".join(filter(None, (found.asked.words, f"by {found.sort}")))
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
    store: Store, asked: PairFilter, order: Callable[[Margin, str, str], Any], limit: int | None
) -> tuple[int, int, list[str]]:
    """How many pairs there are and how many match, and the ids of the first of these, in order."""
    sift, matching = Sift(store, asked), 0

    def places() -> Iterator[tuple[Any, str]]:
        nonlocal matching
        for row in chain.from_iterable(sift.rows()):
            matching += 1
            margin = asked.margin(dict(named(row["margins"])), row["margin"])
            yield order(margin, row["prompt"], row["pair_id"]), row["pair_id"]

    found = sorted(places()) if limit is None else nsmallest(limit, places())
    return sift.total, matching, [key for _, key in found]


def _found_pairs(store: Store, asked: PairFilter, chosen: Sequence[str]) -> list[FoundPair]:
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
    for table in kinds():
        for key in store.keys(table):
            if key[:SHORT] in starts:
                alike[key[:SHORT]].append(key)
    return {key: _shortest(key, alike[key[:SHORT]]) for key in keys}


def _shortest(key: str, alike: Sequence[str]) -> str:
    others = [other for other in alike if other != key]
    lengths = range(SHORT, len(key))
    return next((key[:n] for n in lengths if not any(other.startswith(key[:n]) for other in others)), key)

"""Which pairs a user asks for: one filter for `rpo pairs` and `rpo report`."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args

from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.card import REASONS
from rpo_cli.records import Pair
from rpo_cli.store import Store
from rpo_cli.visuals.tally import named

KINDS: tuple[str, ...] = get_args(Pair.model_fields["pair_kind"].annotation)
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
        if self.kind is not None and self.kind not in KINDS:
            raise UsageError(
                f"--kind {self.kind}: no kind of pair{nearest(self.kind, KINDS)}",
                f"one of {', '.join(KINDS)}",
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
    def said(self) -> str:
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
        asked, pictures = self._said
        if row["critique_id"]:
            return asked.get(row["critique_id"], ())
        if row["pair_kind"] == "counter":
            return ()
        sides = [(row["prompt_id"], row[f"{side}_sha256"]) for side in "ab"]
        return tuple(dict.fromkeys(flaw for side in sides for flaw in pictures.get(side, ())))

    @cached_property
    def _said(self) -> tuple[dict[str, tuple[str, ...]], dict[tuple[str, str], tuple[str, ...]]]:
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

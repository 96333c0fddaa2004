"""Which pairs a report shows: a bounded choice that depends on the rows alone, never on their order."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rpo_cli.report.figures import outcome

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

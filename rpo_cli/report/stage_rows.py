"""What a report tells of one stage of the line: rows, rejects, pace, time and what the time costs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StageRow:
    """One stage of the line: its rows, rows of older settings (`stale`), and rejects by reason.

    rate: rows a second when it last ran here; None when that is not known.
    """

    stage: str
    rows: int
    stale: int
    rejects: Mapping[str, int]
    rate: float | None = None

    @property
    def seconds(self) -> float | None:
        """What all its rows, rejects too, take at that pace."""
        return None if self.rate is None else (self.rows + sum(self.rejects.values())) / self.rate

    @property
    def took(self) -> str:
        """The seconds in a unit that one can read."""
        seconds = self.seconds
        if seconds is None:
            return "–"
        return (
            f"{seconds:.0f} s"
            if seconds < 120
            else f"{seconds / 60:.0f} min"
            if seconds < 7200
            else (f"{seconds / 3600:.1f} h")
        )

    def costs(self, price_per_hour: float) -> str:
        """The seconds at a price, in the price's own currency."""
        return "–" if self.seconds is None else amount(self.seconds / 3600 * price_per_hour)


def amount(money: float) -> str:
    """Two digits behind the point; of less than one, two that count."""
    return f"{money:,.2f}" if money >= 1 or money == 0 else f"{money:.2g}"


def total(stages: Iterable[StageRow], price_per_hour: float) -> str:
    """Of the stages whose pace is known."""
    return amount(sum(row.seconds or 0.0 for row in stages) / 3600 * price_per_hour)

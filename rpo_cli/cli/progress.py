"""Observers of the line: a live bar on a terminal, a plain line now and then elsewhere, or nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rpo_cli.protocols import Observer
from rpo_cli.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

SECONDS_BETWEEN_LINES = 10.0
FIGURES = 48  # characters of rows, pace, rejects and time left beside a label
WITH_BAR = 80  # columns, below which the figures need the room


@dataclass
class Pace:
    """How far a stage is: rows that are there, made and rejected, and the rate of this call.

    The clock starts at the first batch, so that loading the model does not count as slow rows.
    """

    stage: str
    total: int
    present: int
    rows: int = 0
    rejects: int = 0
    first: tuple[float, int] | None = None

    def advance(self, rows: int, rejects: int, now: float) -> None:
        self.rows += rows
        self.rejects += rejects
        if self.first is None:
            self.first = (now, self.rows + self.rejects)

    @property
    def done(self) -> int:
        return min(self.total, self.present + self.rows + self.rejects)

    def rate(self, now: float) -> float | None:
        """Rows per second since the first batch; None before the second."""
        if self.first is None or now <= self.first[0]:
            return None
        rows = self.rows + self.rejects - self.first[1]
        return rows / (now - self.first[0]) if rows else None

    def line(self, now: float) -> str:
        """ "generate 64/192, 3 rejected, 2.1 rows/s, 61 s left"."""
        parts = [f"{self.stage} {self.done:,}/{self.total:,}"]
        if self.rejects:
            parts.append(f"{self.rejects:,} rejected")
        if rate := self.rate(now):
            parts.append(f"{rate:.3g} rows/s")
            parts += [f"{(self.total - self.done) / rate:,.0f} s left"] if self.done < self.total else []
        return ", ".join(parts)


@dataclass
class Lines:
    """For logs: a line at the start, about every ten seconds, and at the end of a stage."""

    say: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    pace: Pace | None = None
    spoke: float = field(default=0.0)

    def start(self, stage: str, total: int, present: int) -> None:
        self.pace, self.spoke = Pace(stage, total, present), self.clock()
        self.say(self.pace.line(self.spoke))

    def advance(self, rows: int, rejects: int) -> None:
        if self.pace is None:
            return
        now = self.clock()
        self.pace.advance(rows, rejects, now)
        if now - self.spoke >= SECONDS_BETWEEN_LINES:
            self.spoke = now
            self.say(self.pace.line(now))

    def finish(self) -> None:
        if self.pace is not None:
            whole = self.pace.done == self.pace.total
            self.say(f"{self.pace.line(self.clock())}, {'done' if whole else 'stopped'}")
            self.pace = None

    def note(self, text: str) -> None:
        self.say(text)


class Bar:
    """For terminals: one live line per stage with rows, rate and time left. rich loads when one is made."""

    def __init__(self) -> None:
        from rich.console import Console

        self._pace: Pace | None = None
        self._task: TaskID | None = None
        self._bar: Progress | None = None
        self._console = Console(stderr=True, highlight=False)

    def start(self, stage: str, total: int, present: int) -> None:
        from rich import progress

        self._pace = Pace(stage, total, present)
        width = self._console.width
        self._bar = progress.Progress(
            progress.TextColumn("{task.description:<14}", markup=False),
            *([progress.BarColumn()] if width >= WITH_BAR else []),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[pace]}", markup=False),
            progress.TimeRemainingColumn(),
            console=self._console,
        )
        label = shortened(printable(stage), max(14, width - FIGURES))
        self._task = self._bar.add_task(label, total=total, completed=present, pace="")
        self._bar.start()

    def advance(self, rows: int, rejects: int) -> None:
        if self._pace is None or self._bar is None or self._task is None:
            return
        now = time.monotonic()
        self._pace.advance(rows, rejects, now)
        rate = self._pace.rate(now)
        pace = f"{rate:.3g} rows/s" if rate else ""
        rejected = f" {self._pace.rejects:,} rejected" if self._pace.rejects else ""
        self._bar.update(self._task, completed=self._pace.done, pace=pace + rejected)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def note(self, text: str) -> None:
        self._console.print(printable(text), markup=False)


@dataclass
class Noting:
    """Another observer whose notes are kept as well."""

    observer: Observer
    notes: list[str]

    def start(self, stage: str, total: int, present: int) -> None:
        self.observer.start(stage, total, present)

    def advance(self, rows: int, rejects: int) -> None:
        self.observer.advance(rows, rejects)

    def finish(self) -> None:
        self.observer.finish()

    def note(self, text: str) -> None:
        self.notes.append(text)
        self.observer.note(text)


def shortened(text: str, width: int) -> str:
    """The end of a text that is longer than `width`: in "label: stage" the stage tells more."""
    return text if len(text) <= width else f"…{text[1 - width :]}"

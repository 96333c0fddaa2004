"""review: a reviewer's desk. Takes verdicts one by one; each is on disk before the next pair is shown."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rpo_cli.errors import RunLocked, UsageError
from rpo_cli.line.dataset.inputs import rows_of
from rpo_cli.line.review.queue import Blind, Place, Showing, ShownPicture, counted, other, queue, secret
from rpo_cli.records import Verdict, content_key
from rpo_cli.schema import Part
from rpo_cli.stages.verdicts import standing, subject
from rpo_cli.store import Store, open_store

COLUMNS = (
    *("pair_id", "prompt_id", "prompt", "pair_kind", "verdict"),
    *("a_id", "b_id", "a_sha256", "b_sha256"),
)
MANY = 64  # files of verdicts
BREAK = 120.0  # seconds without a verdict that count as a break, not as thinking
SHARDS = 2**32
Word = Literal["left", "right", "tie", "reject", "skip"]
Outcome = Literal["saved", "removed", "already", "nothing", "undone"]


@dataclass(frozen=True)
class Progress:
    """judged and skipped of all showings; rate: verdicts a minute in this sitting, None at its start."""

    judged: int
    skipped: int
    total: int
    rate: float | None

    @property
    def minutes_left(self) -> float | None:
        return (self.total - self.judged) / self.rate if self.rate else None


@dataclass
class Desk:
    """What one reviewer has before him. Its methods may be called from several threads."""

    store: Store
    reviewer: str
    blind: Blind
    pictures: ShownPicture
    limit: int | None = None
    repeat: float = 0.1
    _queue: list[Showing] = field(default_factory=list)
    _known: dict[str, Showing] = field(default_factory=dict)  # also those that are gone from the pairs
    _entries: list[Verdict] = field(default_factory=list)
    _last: dict[Place, Verdict] = field(default_factory=dict)
    _places: set[Place] = field(default_factory=set)
    _built: list[Part] | None = None
    _pace: list[float] = field(default_factory=list)
    _guard: threading.RLock = field(default_factory=threading.RLock)

    def load(self) -> None:
        """Read the reviewer's entries, then the pairs."""
        rows = [Verdict(**row) for row in rows_of(self.store) if row["reviewer"] == self.reviewer]
        self._entries = sorted(rows, key=lambda row: (row.number, row.verdict_id))
        self._last = {_place(entry): entry for entry in self._entries}
        self.refresh()

    def refresh(self) -> None:
        """Take up the pairs anew when another rpo has built them since."""
        with self._guard:
            parts = self.store.parts("pairs")
            if parts == self._built:
                return
            rows = self.store.columns("pairs", COLUMNS).to_pylist()
            judged = [subject(row) for row in standing(rows_of(self.store))]
            chosen = counted(rows, judged)
            self._queue = queue(chosen, self.blind, limit=self.limit, repeat=self.repeat)
            self._known |= {showing.token: showing for showing in self._queue}
            self._places = {showing.place for showing in self._queue}
            self.pictures.add(self._queue)
            self._built = parts

    def next(self) -> Showing | None:
        """The next pair to judge, those never skipped first, then those skipped least; None at the end."""
        with self._guard:
            self.refresh()
            skips = Counter(_place(entry) for entry in self._entries if entry.choice == "skip")
            left = (item for item in self._queue if not _counts(self._last.get(item.place)))
            passed: list[Showing] = []
            for showing in left:
                if showing.place not in skips:
                    return showing
                passed.append(showing)
            return min(passed, key=lambda item: skips[item.place], default=None)

    def find(self, token: str) -> Showing | None:
        """A pair that is, or was, before this reviewer."""
        return self._known.get(token)

    def answer(self, showing: Showing) -> Verdict | None:
        """What the reviewer has said of it and not taken back."""
        with self._guard:
            found = self._last.get(showing.place)
            return found if _counts(found) else None

    def gone(self, showing: Showing) -> bool:
        """Whether the pair has left the run since it was shown."""
        with self._guard:
            return showing.place not in self._places

    def progress(self) -> Progress:
        with self._guard:
            ends = [self._last.get(showing.place) for showing in self._queue]
            skipped = sum(end is not None and end.choice == "skip" for end in ends)
            gaps = [b - a for a, b in zip(self._pace, self._pace[1:], strict=False) if b - a < BREAK]
            rate = 60 * len(gaps) / sum(gaps) if gaps and sum(gaps) > 0 else None
            return Progress(sum(map(_counts, ends)), skipped, len(self._queue), rate)

    @property
    def number(self) -> int:
        """How many entries there are: an undo names it, so that it takes back what its page has seen."""
        return len(self._entries)

    def record(self, showing: Showing, word: Word) -> Outcome:
        """Make a verdict durable.

        Returns:
            "saved"; "removed": saved, but the pair is gone from the run; "already": another window was
            quicker and said something else, which stands.

        Raises:
            StorageError: it could not be written and does not count.
        """
        choice = _choice(word, showing)
        with self._guard:
            before = self.answer(showing)
            if before is not None:
                return "saved" if before.choice == choice else "already"
            self._append(showing_fields(showing), choice)
            now = time.monotonic()
            self._pace = [*self._pace[-200:], now]
            self.refresh()
            return "removed" if self.gone(showing) else "saved"

    def undo(self, number: int) -> tuple[Outcome, Showing | None]:
        """Take back the last entry, if there are still `number` of them; returns the pair it was about.

        Raises:
            StorageError: it could not be written: the entry stands.
        """
        with self._guard:
            open_ = self._undoable()
            if not open_ or number != self.number:
                return "nothing", None
            fields = open_[-1].model_dump(exclude={"verdict_id", "choice", "reviewer", "number"})
            self._append(fields, "undo")
            place = _place(open_[-1])
            return "undone", next((item for item in self._queue if item.place == place), None)

    def can_undo(self) -> bool:
        with self._guard:
            return bool(self._undoable())

    def _undoable(self) -> list[Verdict]:
        stack: list[Verdict] = []
        for entry in self._entries:
            if entry.choice == "undo":
                if stack:
                    stack.pop()
            else:
                stack.append(entry)
        return stack

    def _append(self, fields: dict[str, object], choice: str) -> None:
        number = self._entries[-1].number + 1 if self._entries else 0
        key = content_key("verdict", self.reviewer, number, choice, fields)
        row = Verdict.model_validate(
            {"verdict_id": key, "choice": choice, "reviewer": self.reviewer, "number": number, **fields}
        )
        self.store.commit("verdicts", [row], group=content_key("reviewer", self.reviewer)[:8])
        self._entries.append(row)
        self._last[_place(row)] = row


def showing_fields(showing: Showing) -> dict[str, object]:
    """What a verdict keeps of the showing it is about."""
    names = ("pair_id", "prompt_id", "a_sha256", "b_sha256", "left", "repeat")
    return {name: getattr(showing, name) for name in names}


def _place(entry: Verdict) -> Place:
    return (entry.prompt_id, frozenset((entry.a_sha256, entry.b_sha256))), entry.repeat


def _counts(entry: Verdict | None) -> bool:
    return entry is not None and entry.choice not in ("skip", "undo")


def _choice(word: Word, showing: Showing) -> str:
    return {"left": showing.left, "right": other(showing.left)}.get(word, word)


@contextmanager
def open_desk(
    path: str | Path, reviewer: str, *, limit: int | None = None, repeat: float = 0.1
) -> Iterator[Desk]:
    """A reviewer's desk, for one process at a time; small files of earlier sittings are joined first.

    Raises:
        UsageError: no run, or no pairs to judge in it.
        RunLocked: this reviewer is at work in another process.
    """
    store = open_store(path)
    key = secret(store.path("logs"))
    _tidy(store)
    shard = (int(content_key("reviewer", reviewer)[:8], 16), SHARDS)
    with ExitStack() as held:
        try:
            held.enter_context(store.lock("review", shard))
        except RunLocked as error:
            raise RunLocked(
                f"{path}: '{reviewer}' is reviewing this run already, or its files are being joined",
                "go on in that window, or give another name with --reviewer",
            ) from error
        blind = Blind(key, reviewer)
        desk = Desk(store, reviewer, blind, ShownPicture(store, blind), limit, repeat)
        desk.load()
        if not desk.progress().total:
            raise UsageError(f"{path}: no accepted pairs to judge", f"rpo build-pairs {path}")
        yield desk


def _tidy(store: Store) -> None:
    """Every verdict is a file of its own: join those of earlier sittings while nobody writes."""
    if len(store.parts("verdicts")) > MANY:
        with suppress(RunLocked), store.lock("review"):
            store.compact("verdicts")

"""Reading a source chunk by chunk into the tables and the ledger; what has not changed is not read.

A chunk is `run.rows_per_part` rows, as many as when the source first came in. Its rows are written, then
its claim, then how its files look: a kill leaves a chunk as it was or as it is now. A chunk with a
rejected row is read again each time: what was missing or broken may have come.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from rpo_cli.exchange.incoming import Source
from rpo_cli.line.imports.content import Contents
from rpo_cli.line.imports.ledger import NAMED, Ledger, blank
from rpo_cli.line.imports.rows import RowMaker
from rpo_cli.line.imports.sources import STAGE
from rpo_cli.line.session import Line
from rpo_cli.records import Claim, Reject, Row, content_key


@dataclass
class Chunk:
    """The rows of a chunk that were read, each key once."""

    start: int
    bound: int  # where to stop: its end, or the limit
    rows: dict[str, dict[str, Row]] = field(default_factory=lambda: {table: {} for table in NAMED})
    digests: dict[int, str] = field(default_factory=dict)

    def add(self, number: int, rows: list[Row]) -> None:
        for row in rows:
            self.rows[row.table].setdefault(row.key, row)
        if not isinstance(rows[0], Reject):
            self.digests[number] = digest(row.key for row in rows)

    def claim(self, source: str, ended: bool, content: str) -> Claim:
        keys = {table: tuple(sorted(rows)) for table, rows in self.rows.items()}
        numbers = tuple(sorted(self.digests))
        told = {"rows": numbers, "digests": tuple(self.digests[number] for number in numbers), **keys}
        said = {"upto": self.bound, "ended": ended, "content": content}
        return blank(source, self.start).model_copy(update=said | told)


def digest(keys: Iterable[str]) -> str:
    """What a row of a source says, by the keys of the rows that it gives."""
    return content_key(sorted(set(keys)))


@dataclass
class Taking:
    """One reading of a source.

    Attributes:
        size: rows of a chunk.
        limit: only the first rows are looked at.
        read: how many rows were read.
        before, after: row → what it says, of the chunks that were read.
    """

    line: Line
    source: Source
    maker: RowMaker
    contents: Contents
    size: int
    limit: int | None
    ledger: Ledger
    present: dict[str, set[str]]
    read: int = 0
    whole: bool = True  # every row of the source was read now
    before: dict[int, str] = field(default_factory=dict)
    after: dict[int, str] = field(default_factory=dict)

    def take(self) -> None:
        """Read what has changed since the last time, all of it at first."""
        total = min(self.limit or self.source.rows or 0, self.source.rows or self.limit or 0)
        self.line.observer.start(STAGE, total, 0)
        self.whole = self.limit is None
        start: int | None = 0
        try:
            while start is not None and not self._beyond(start):
                known = self._known(start)
                start = self._read_on(start) if known is None else self._pass(known)
        finally:
            self.line.observer.finish()
        self.ledger.tidy()

    def _beyond(self, start: int) -> bool:
        return self.limit is not None and start >= self.limit

    def _bound(self, start: int) -> int:
        """Where to stop in a chunk: a limit does not take back rows of it that came in before."""
        if self.limit is None:
            return start + self.size
        known = self.ledger.at(start)
        return min(start + self.size, max(self.limit, known.upto if known else 0))

    def _known(self, start: int) -> Claim | None:
        """What the run has of a chunk, if there is nothing to look at again."""
        claim = self.ledger.at(start)
        if claim is None or claim.rejects or (claim.upto < self._bound(start) and not claim.ended):
            return None
        if any(not self.present[table].issuperset(getattr(claim, table)) for table in NAMED):
            return None  # somebody has deleted a broken part
        same = self.contents.unchanged(start, claim.upto, claim.ended, claim.content)
        return claim if same else None

    def _pass(self, claim: Claim) -> int | None:
        self.whole = False
        self.line.observer.advance(len(claim.rows), 0)
        if claim.ended:
            self._nothing(claim.start + 1)
            return None
        return claim.start + self.size

    def _read_on(self, start: int) -> int | None:
        """Read from a row on; returns where the next chunk that is not read starts, None at the end."""
        self.contents.touched.clear()
        chunk: Chunk | None = None
        for entry in self.source.read(start):
            at = entry.row // self.size * self.size
            if chunk is not None and at != chunk.start:  # rows may be missing in between
                self._keep(chunk)
                start, chunk = chunk.start + self.size, None
            if chunk is None:
                self._nothing(start, at)
                if self._beyond(at) or self._known(at) is not None:
                    return at
                chunk = Chunk(at, self._bound(at))
            if entry.row < chunk.bound:
                self._add(chunk, entry.row, self.maker.rows(entry))
            if entry.row + 1 >= chunk.bound:  # kept before the next row is read, which may fail
                self._keep(chunk)
                start, chunk = chunk.start + self.size, None
                if self._beyond(start) or self._known(start) is not None:
                    return start
        chunk = chunk or Chunk(start, start)
        self._keep(chunk, ended=True)
        self._nothing(chunk.start + 1)
        return None

    def _add(self, chunk: Chunk, number: int, rows: list[Row]) -> None:
        rejected = isinstance(rows[0], Reject)
        chunk.add(number, rows)
        self.read += 1
        self.line.observer.advance(0 if rejected else 1, 1 if rejected else 0)

    def _keep(self, chunk: Chunk, *, ended: bool = False) -> None:
        """What of the chunk is new, as one part per table; then its claim."""
        content, looks = self.contents.of(chunk.start, chunk.bound, ended)
        self.contents.touched.clear()
        for table in NAMED:
            rows = [row for key, row in chunk.rows[table].items() if key not in self.present[table]]
            self.present[table] |= {row.key for row in rows}
            if rows:
                group = "" if table == "rejects" else self.maker.group
                self.line.store.commit(table, rows, group=group)
        self._replaced(self.ledger.at(chunk.start))
        self.after |= chunk.digests
        self.ledger.put(chunk.claim(self.maker.group, ended, content))
        self.contents.remember(chunk.start, looks)

    def _nothing(self, start: int, stop: int | None = None) -> None:
        """The source has no rows in the chunks that start from `start` on, up to `stop`."""
        if start != stop:
            for other in self.ledger.starts():
                if start <= other and (stop is None or other < stop):
                    self._replaced(self.ledger.void(other))

    def _replaced(self, claim: Claim | None) -> None:
        if claim is not None:
            self.before |= dict(zip(claim.rows, claim.digests, strict=True))


def changes(before: Mapping[int, str], after: Mapping[int, str]) -> tuple[int, int, int]:
    """How many rows of a source were added, changed and withdrawn, by what they say.

    A row that has moved is none of these; a row that says something else at its place is changed.
    """
    old = {row: said for row, said in before.items() if after.get(row) != said}
    new = {row: said for row, said in after.items() if before.get(row) != said}
    lost, fresh = _without(old, Counter(new.values())), _without(new, Counter(old.values()))
    changed = len(lost & fresh)
    return len(fresh) - changed, changed, len(lost) - changed


def _without(rows: Mapping[int, str], others: Counter[str]) -> set[int]:
    """The rows that are left when as many of each kind as in `others` are taken away."""
    left = others.copy()
    kept = set()
    for row, said in rows.items():
        if left[said] > 0:
            left[said] -= 1
        else:
            kept.add(row)
    return kept

"""Reading a source chunk by chunk into the tables and the ledger; what has not changed is not read again.

The content of a chunk is a hash of the files that its rows come from: of a local file its SHA-256, of a
dataset of the hub the commit and path. The ledger keeps it. How to see without reading that the files are
the same (their sizes, times and inodes) is kept in the user's cache, whose loss costs time only.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.incoming import Source
from rpo_cli.exchange.places import HubPath, Place, Touched, state_of
from rpo_cli.files import create, draft_of
from rpo_cli.hashes import SETTLED, FileHashes, user_cache
from rpo_cli.line.imports.ledger import NAMED, Ledger, blank
from rpo_cli.line.imports.rows import RowMaker
from rpo_cli.line.imports.sources import KEPT, STAGE
from rpo_cli.line.session import Line
from rpo_cli.records import Claim, Reject, Row, canonical_json, content_key


@dataclass
class Contents:
    """The content of a source that is being read, chunk by chunk.

    Attributes:
        made: what rows hang on beside files: commits of datasets of the hub, an archive's hash, how they
            are read.
        apart: nothing but `made` is its content: all of it is on the hub, or was unpacked for now.
        folder: of the cache, a small file for each chunk.
        touched: what rows have been read from; emptied chunk by chunk.
        hashes: of files, as far as they are remembered.
    """

    source: Source
    made: str
    apart: bool
    folder: Path
    touched: list[Touched]
    hashes: FileHashes
    _states: dict[Place, str] = field(init=False)  # of the source's own files, in their order
    _known: dict[tuple[Place, str], str] = field(default_factory=dict)
    _reached: int = 0  # so many of these files are behind the rows that were read

    def __post_init__(self) -> None:
        self._states = {place: state_of(place) for place in self.source.files}

    def unchanged(self, start: int, upto: int, ended: bool, content: str) -> bool:
        """Whether rows [start, upto) are still made of what has the hash `content`; reads no row."""
        if self.apart:
            return content == self._digest([self.made])
        known = _read(self.folder / f"{start}.json")
        count, files = known.get("count"), known.get("files")
        if self.hashes.rehash or known.get("content") != content:
            return False
        if not isinstance(count, int) or not isinstance(files, dict):
            return False
        tables = len(self._states) if ended else count
        now = {"names": self._names(start, upto, ended), "count": tables, "tables": self._tables(tables)}
        return known == known | now and all(self._same(Path(name), *look) for name, look in files.items())

    def of(self, start: int, upto: int, ended: bool) -> tuple[str, dict[str, Any]]:
        """The hash of what rows [start, upto), read just now, were made of, and what `remember` is told."""
        if self.apart:
            return self._digest([self.made]), {}
        own = list(self._states)
        reached = [own.index(item.place) + 1 for item in self.touched if item.place in self._states]
        self._reached = max(self._reached, *reached, 0)
        count = len(own) if ended or not self._reached else self._reached
        rows = {item.place: item for item in self.touched if item.place not in self._states}
        hashes = {place: item.sha256 or self._read(place, item.state) for place, item in rows.items()}
        looks = {"names": self._names(start, upto, ended), "tables": self._tables(count), "count": count}
        content = self._digest([looks["names"], looks["tables"], list(hashes.values())])
        looks["files"] = {
            str(place.absolute()): ["" if _fresh(item.state) else item.state, hashes[place]]
            for place, item in rows.items()
            if isinstance(place, Path)
        }
        return content, {"content": content, **looks}

    def remember(self, start: int, looks: dict[str, Any]) -> None:
        """Keep how the files of a chunk look, once what was read of them is in the run."""
        if looks:
            _write(self.folder / f"{start}.json", looks)

    def _names(self, start: int, upto: int, ended: bool) -> str:
        """Of the rows, where no file says which rows there are; at the end also that there are no more."""
        return self._digest([self.made, *self.source.names[start : None if ended else upto]])

    def _tables(self, count: int) -> str:
        """Of the first files of the source."""
        places = list(self._states.items())[:count]
        return self._digest([self._read(place, state) for place, state in places])

    def _same(self, path: Path, state: str, sha256: str) -> bool:
        """Whether a file is the same: it looks so, or it has the same hash."""
        now = state_of(path)
        try:
            return bool(now) and (now == state or self._hash(path, now) == sha256)
        except OSError:
            return False

    def _read(self, place: Place, state: str) -> str:
        try:
            return self._hash(place, state)
        except OSError as error:
            raise UsageError(f"{place}: {error.strerror}", "see that you may read it") from error

    def _hash(self, place: Place, state: str) -> str:
        if isinstance(place, HubPath):
            return str(place)
        if (place, state) not in self._known:
            self._known[place, state] = self.hashes.of(place)
        return self._known[place, state]

    @staticmethod
    def _digest(parts: Iterable[Any]) -> str:
        return hashlib.sha256(canonical_json(list(parts)).encode()).hexdigest()


def cache_folder(source: str, size: int) -> Path:
    """Where the looks of a source's files are kept, by the rows of a chunk."""
    return user_cache().parent / "imports" / f"{source}-{size}"


def _fresh(state: str) -> bool:
    """Whether a file was changed so lately that a coarse clock would not show the next change."""
    if state.startswith("hf://"):  # a commit does not change
        return False
    return time.time_ns() - max(map(int, state.split()[1:3]), default=0) < SETTLED


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(file: Path, looks: dict[str, Any]) -> None:
    draft = draft_of(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with create(draft) as out:
            out.write(json.dumps(looks, sort_keys=True).encode())
        draft.replace(file)
    except OSError:  # a read-only home is fine: the files are read again next time
        with suppress(OSError):
            draft.unlink()


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
        for table in KEPT:
            self.line.join_parts(table, {self.maker.group})

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

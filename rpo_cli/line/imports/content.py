"""What the rows of a source were read from, so that a chunk whose files are the same is not read again.

The content of a chunk is a hash of the files that its rows come from: of a local file its SHA-256, of a
dataset of the hub the commit and path. The ledger keeps it. How to see without reading that the files are
the same (their sizes, times and inodes) is kept in the user's cache, whose loss costs time only.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.hub import HubPath
from rpo_cli.exchange.incoming import Place, Source
from rpo_cli.exchange.places import Touched, state_of
from rpo_cli.files import create, draft_of
from rpo_cli.hashes import SETTLED, FileHashes, user_cache
from rpo_cli.records import canonical_json


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

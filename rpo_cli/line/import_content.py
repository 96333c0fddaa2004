"""What the rows of a source were read from, so that a chunk whose files are the same is not read again.

The content of a chunk is a hash of the files that its rows come from: of a local file its SHA-256, of a
dataset of the hub the commit and path. The ledger keeps it. How to see without reading that the files are
the same (their sizes, times and inodes) is kept in the user's cache, whose loss costs time only.
"""

import hashlib
import json
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.hub_folder import HubPath
from rpo_cli.exchange.incoming import Place, Source
from rpo_cli.exchange.touched import Touched, state_of
from rpo_cli.hashes import SETTLED, file_sha256, user_cache
from rpo_cli.records import canonical_json


@dataclass
class Contents:
    """The content of a source that is being read, chunk by chunk.

    Attributes:
        commits: of the datasets of the hub that it is read from; "" where all of it is on this machine.
        far: all of it is on the hub, so that its commits are its content.
        folder: of the cache, a small file for each chunk.
        touched: what rows have been read from; emptied chunk by chunk.
        again: read every file, however it looks.
    """

    source: Source
    commits: str
    far: bool
    folder: Path
    touched: list[Touched]
    again: bool = False
    _states: dict[Place, str] = field(init=False)  # of the source's own files, in their order
    _hashes: dict[tuple[Place, str], str] = field(default_factory=dict)
    _reached: int = 0  # so many of these files are behind the rows that were read

    def __post_init__(self) -> None:
        self._states = {place: state_of(place) for place in self.source.files}

    def unchanged(self, start: int, upto: int, ended: bool, content: str) -> bool:
        """Whether rows [start, upto) are still made of what has the hash `content`; reads none of it."""
        if self.far:
            return content == self._digest([self.commits])
        if self.again:
            return False
        known = _read(self.folder / f"{start}.json")
        count, files = known.get("count"), known.get("files")
        if known.get("content") != content or not isinstance(count, int) or not isinstance(files, dict):
            return False
        tables = len(self._states) if ended else count
        now = {"names": self._names(start, upto, ended), "count": tables, "states": self._looks(tables)}
        return known == known | now and all(state_of(Path(name)) == state for name, state in files.items())

    def of(self, start: int, upto: int, ended: bool) -> tuple[str, dict[str, Any]]:
        """The hash of what rows [start, upto), read just now, were made of, and what `remember` is told."""
        if self.far:
            return self._digest([self.commits]), {}
        places = list(self._states)
        own = [places.index(item.place) + 1 for item in self.touched if item.place in self._states]
        self._reached = max(self._reached, *own, 0)
        count = len(places) if ended or not self._reached else self._reached
        rows = {item.place: item for item in self.touched if item.place not in self._states}
        hashes = [self._hash(place, self._states[place]) for place in places[:count]]
        parts = [item.sha256 or self._hash(place, item.state) for place, item in rows.items()]
        names = self._names(start, upto, ended)
        content = self._digest([hashes, names, parts, self.commits])
        local = [(place, item) for place, item in rows.items() if isinstance(place, Path)]
        files = {str(place.absolute()): item.state for place, item in local}
        if any(_fresh(state) for state in (*files.values(), *list(self._states.values())[:count])):
            return content, {}
        looks = {"names": names, "count": count, "states": self._looks(count), "files": files}
        return content, {"content": content, **looks}

    def remember(self, start: int, looks: dict[str, Any]) -> None:
        """Keep how the files of a chunk look, once what was read of them is in the run."""
        if looks:
            _write(self.folder / f"{start}.json", looks)

    def _names(self, start: int, upto: int, ended: bool) -> str:
        """Of the rows, where no file says which rows there are; at the end also that there are no more."""
        return self._digest([self.commits, *self.source.names[start : None if ended else upto]])

    def _looks(self, count: int) -> str:
        return self._digest(list(self._states.values())[:count])

    def _hash(self, place: Place, state: str) -> str:
        if isinstance(place, HubPath):
            return str(place)
        if (place, state) not in self._hashes:
            try:
                self._hashes[place, state] = file_sha256(place, rehash=self.again)
            except OSError as error:
                raise UsageError(f"{place}: {error.strerror}", "see that you may read it") from error
        return self._hashes[place, state]

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
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(looks, sort_keys=True), encoding="utf-8")
        temporary.replace(file)
    except OSError:  # a read-only home is fine: the files are read again next time
        with suppress(OSError):
            temporary.unlink()

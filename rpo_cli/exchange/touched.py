"""Which files the rows of a source are read from, told by those who read them.

An importer knows its files and nothing of what is kept of them; who imports watches. A file is told with
its state from before it was read: one that changes meanwhile looks changed the next time.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpo_cli.pictures import sha256

if TYPE_CHECKING:
    from rpo_cli.exchange.incoming import Place


@dataclass(frozen=True)
class Touched:
    """A file that something was read from.

    Attributes:
        state: what tells that a file is the same without reading it.
        sha256: of all of its bytes; None where only parts of it were read.
    """

    place: "Place"
    state: str
    sha256: str | None = None


_watched: ContextVar[list[Touched] | None] = ContextVar("watched", default=None)


@contextmanager
def watching() -> Iterator[list[Touched]]:
    """What is told meanwhile, in order, in a list that the watcher may empty."""
    token = _watched.set([])
    try:
        found = _watched.get()
        assert found is not None
        yield found
    finally:
        _watched.reset(token)


def touch(place: "Place") -> None:
    """Tell of a file before it is read in parts."""
    watched = _watched.get()
    if watched is not None:
        watched.append(Touched(place, state_of(place)))


def touch_whole(place: "Place", state: str, data: bytes) -> None:
    """Tell of a file that was read whole."""
    watched = _watched.get()
    if watched is not None:
        watched.append(Touched(place, state, sha256(data)))


def state_of(place: "Place", status: Any = None) -> str:
    """Size, times and inode of a file; of one of the hub its commit and path; "" where there is none.

    Args:
        status: `place.stat()`, where that is known.
    """
    if not isinstance(place, Path):
        return str(place)
    try:
        found = status or place.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"

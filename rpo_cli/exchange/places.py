"""Where files of a source are, what a name in data means, and which files its rows were read from.

An importer knows its files and nothing of what is kept of them; who imports watches. A file is told with
its state from before it was read: one that changes meanwhile looks changed the next time.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from os.path import normpath
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from unicodedata import normalize

from rpo_cli.exchange.hub import HubPath
from rpo_cli.pictures import sha256

Place = Path | HubPath  # on this machine, or on the hub, read where it lies
REPOSITORIES = ("datasets--", "models--", "spaces--")


@dataclass(frozen=True)
class Touched:
    """A file that something was read from.

    Attributes:
        state: what tells that a file is the same without reading it.
        sha256: of all of its bytes; None where only parts of it were read.
    """

    place: Place
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


def touch(place: Place) -> None:
    """Tell of a file before it is read in parts."""
    watched = _watched.get()
    if watched is not None:
        watched.append(Touched(place, state_of(place)))


def touch_whole(place: Place, state: str, data: bytes) -> None:
    """Tell of a file that was read whole."""
    watched = _watched.get()
    if watched is not None:
        watched.append(Touched(place, state, sha256(data)))


def state_of(place: Place, status: Any = None) -> str:
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


def meant(base: Place, home: Place, name: str, folders: Sequence[str]) -> list[Place] | str:
    """The places that a name in data may mean, or why there are none; no link is followed yet.

    Args:
        base: what the name is relative to, itself or below one of `folders`; without links.
        home: the source, which must hold the places; without links.
    """
    parts = PureWindowsPath(name)  # knows both kinds of separator, drives and UNC names
    if "\0" in name:
        return "holds NUL"
    if isinstance(base, Path) and Path(name).is_absolute():
        absolute = Path(normpath(name))
        # what holds the file may be named by a link, as the source may
        given: list[Place] = [absolute, absolute.parent.resolve() / absolute.name]
        inner = [place for place in given if below(place, home) is not None]
        return inner[:1] or "is an absolute path that leads out of the source"
    if parts.drive or parts.root:
        return "is a drive, a server or an absolute path, which leads out of the source"
    bases = (base, *(base / folder for folder in folders))
    places = [plain(each.joinpath(*parts.parts)) for each in bases]
    found = [place for place in places if place is not None and below(place, home) is not None]
    return found or "leads out of the source"


def plain(place: Place) -> Place | None:
    """A place without "." and ".." in its name; None where ".." leads out of a repository of the hub."""
    if isinstance(place, Path):
        return Path(normpath(place))
    name = PurePosixPath(normpath(place.path.as_posix()))
    return None if ".." in name.parts else HubPath(name, place.repository)


def other_spelling(place: Place, home: Place) -> Place | None:
    """The one file that is called so in another Unicode form (é as one character or two), if there is."""
    name = below(place, home)
    if name is None or name.isascii():
        return None
    found: Place = home
    for part in PurePosixPath(name).parts:
        if (found / part).exists():
            found = found / part
            continue
        wanted = normalize("NFC", part)
        alike = [item for item in found.iterdir() if normalize("NFC", item.name) == wanted]
        if len(alike) != 1:
            return None
        found = alike[0]
    return found if found.is_file() else None


def holds(home: Place, target: Place) -> bool:
    """Whether a place, its links followed, is in the source, or a blob of the snapshot around it."""
    if below(target, home) is not None:
        return True
    return isinstance(home, Path) and isinstance(target, Path) and target.parent == blobs_of(home)


def blobs_of(place: Path) -> Path | None:
    """Where the links of the snapshot at, or around, a place may lead; None for other places."""
    repository = repository_of(place)
    return None if repository is None else repository / "blobs"


def repository_of(place: Path) -> Path | None:
    """The folder in the hub's cache that a snapshot belongs to; None for other places."""
    for folder in (place, *place.parents):
        repository = folder.parent.parent
        if folder.parent.name == "snapshots" and repository.name.startswith(REPOSITORIES):
            return repository
    return None


def cached_name(place: Path) -> str:
    """OWNER/NAME/PATH of what lies in a snapshot, whose folder is called by its commit; "" elsewhere."""
    repository = repository_of(place)
    if repository is None:
        return ""
    inner = place.relative_to(repository / "snapshots").parts[1:]
    return "/".join([repository.name.partition("--")[2].replace("--", "/"), *inner])


def below(place: Place, root: Place) -> str | None:
    """The name of a place within a folder; None outside it."""
    if isinstance(place, HubPath) and isinstance(root, HubPath):
        inner, outer = place.path, root.path
        return str(inner.relative_to(outer)) if inner.is_relative_to(outer) else None
    if isinstance(place, Path) and isinstance(root, Path):
        return str(place.relative_to(root)) if place.is_relative_to(root) else None
    return None

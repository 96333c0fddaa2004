"""Where files of a source are, here or on the hub; what a name in data means; which files rows are from.

An importer knows its files and nothing of what is kept of them; who imports watches. A file is told with
its state from before it was read: one that changes meanwhile looks changed the next time.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from os.path import normpath
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any
from unicodedata import normalize

from rpo_cli.errors import Case, RpoError, translated
from rpo_cli.identity import HUB_ERROR, is_unreachable
from rpo_cli.pictures import sha256

if TYPE_CHECKING:
    from huggingface_hub import HfFileSystem

BUFFER = 2**20  # bytes of one request, where not a whole file is wanted
GO_ON = "the same command goes on; see the network, HF_ENDPOINT, HF_HUB_OFFLINE and HF_HUB_DOWNLOAD_TIMEOUT"
# what the hub's client raises, as errors that no importer takes for a bad row
HUB = (
    Case(
        ["huggingface_hub.errors.GatedRepoError"],
        "{where}: the hub gives this dataset only after a licence is accepted",
        "accept it on https://huggingface.co/datasets/{where}, then: hf auth login, or set HF_TOKEN",
    ),
    Case([HUB_ERROR], "{where}: the hub refuses: {why}", GO_ON),
    Case([Exception], "{where}: the hub does not answer ({kind})", GO_ON, when=is_unreachable),
)


@dataclass(frozen=True)
class Repository:
    """A repository at one commit: path → size in bytes of every file."""

    id: str
    commit: str
    sizes: Mapping[str, int]

    @cached_property
    def folders(self) -> frozenset[str]:
        return frozenset(str(parent) for name in self.sizes for parent in PurePosixPath(name).parents)

    @cached_property
    def files(self) -> "HfFileSystem":
        from huggingface_hub import HfFileSystem

        return HfFileSystem()

    def fetch(self, name: str, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of a file.

        Raises:
            RpoError: the hub refuses, does not answer, or sends something else.
        """
        path = f"datasets/{self.id}@{self.commit}/{name}"
        with translated(*HUB, where=self.id):
            size = self.sizes[name]
            data = self.files.cat_file(path, start, stop, cache_type="none", size=size)
        if len(data) != stop - start:
            raise RpoError(
                f"{self.id}: {len(data):,} bytes of {name} came, {stop - start:,} were asked for",
                GO_ON,
            )
        return bytes(data)


@dataclass(frozen=True)
class HubPath:
    """A file or folder of a repository, with what importers use of `pathlib.Path`."""

    path: PurePosixPath
    repository: Repository = field(compare=False)

    def __str__(self) -> str:
        inside = "" if self._key == "." else f"/{self._key}"
        return f"hf://datasets/{self.repository.id}@{self.repository.commit}{inside}"

    @property
    def _key(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        return self.path.name or self.repository.id

    @property
    def parts(self) -> tuple[str, ...]:
        return self.path.parts

    @property
    def suffix(self) -> str:
        return self.path.suffix

    @property
    def stem(self) -> str:
        return self.path.stem

    @property
    def parent(self) -> "HubPath":
        return HubPath(self.path.parent, self.repository)

    @property
    def top(self) -> "HubPath":
        """The whole repository, whose README.md is its card."""
        return HubPath(PurePosixPath(), self.repository)

    def __truediv__(self, name: str) -> "HubPath":
        return HubPath(self.path / name, self.repository)

    def joinpath(self, *names: str) -> "HubPath":
        return HubPath(self.path.joinpath(*names), self.repository)

    def resolve(self) -> "HubPath":
        return self  # a repository has no links

    def as_posix(self) -> str:
        return str(self)

    def exists(self) -> bool:
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        return self._key in self.repository.sizes

    def is_dir(self) -> bool:
        return self._key in self.repository.folders or self._key == "."

    def iterdir(self) -> Iterator["HubPath"]:
        names = {*self.repository.sizes, *self.repository.folders} - {"."}
        inside = (PurePosixPath(name) for name in sorted(names))
        return (HubPath(path, self.repository) for path in inside if path.parent == self.path)

    def glob(self, pattern: str) -> Iterator["HubPath"]:
        """Files and folders of this folder whose name fits; `pattern` has no slash."""
        return (item for item in self.iterdir() if fnmatchcase(item.name, pattern))

    def rglob(self, pattern: str) -> Iterator["HubPath"]:
        """Files below this folder whose name fits; `pattern` has no slash."""
        found = (PurePosixPath(name) for name in self.repository.sizes)
        fits = (
            path for path in found if path.is_relative_to(self.path) and fnmatchcase(path.name, pattern)
        )
        return (HubPath(path, self.repository) for path in fits)

    def stat(self) -> SimpleNamespace:
        return SimpleNamespace(st_size=self.repository.sizes[self._key])

    def read_bytes(self) -> bytes:
        return self.repository.fetch(self._key, 0, self.repository.sizes[self._key])

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8", errors or "strict")

    def open(
        self,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """The file, for reading; without a buffer each read is a request."""
        raw = _Stretches(self.repository, self._key)
        if buffering == 0:
            return raw  # type: ignore[return-value]
        file = io.BufferedReader(raw, BUFFER)
        return file if "b" in mode else io.TextIOWrapper(file, encoding, errors, newline)


class _Stretches(io.RawIOBase):
    """A file of a repository, a request for each read."""

    def __init__(self, repository: Repository, name: str) -> None:
        self._repository, self._name, self._place = repository, name, 0
        self._size = repository.sizes[name]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        stop = min(self._size, self._place + len(buffer))
        if stop <= self._place:
            return 0
        data = self._repository.fetch(self._name, self._place, stop)
        buffer[: len(data)] = data
        self._place = stop
        return len(data)

    def readall(self) -> bytes:
        buffer = bytearray(max(0, self._size - self._place))
        self.readinto(buffer)
        return bytes(buffer)


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

"""Dataset repositories of the Hugging Face hub: read as a folder where they lie, and written in one commit.

Importers read local folders and these alike. The names come in one listing; of a file only the bytes that
are read travel, by range requests of `huggingface_hub`, and nothing is written to disk. The token is that
library's own (login or HF_TOKEN), never an argument of ours.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.identity import COMMIT, hub_commit, pin_name

if TYPE_CHECKING:
    from huggingface_hub import HfApi, HfFileSystem

BUFFER = 2**20  # bytes of one request, where not a whole file is wanted
URIS = ("hf://", "https://")
GO_ON = "the same command goes on; see the network, HF_ENDPOINT, HF_HUB_OFFLINE and HF_HUB_DOWNLOAD_TIMEOUT"


@dataclass(frozen=True)
class Reference:
    """A dataset of the hub as a user names it; `pin` is the name under which run.json keeps the commit."""

    id: str
    revision: str | None
    inside: str

    @property
    def pin(self) -> str:
        return pin_name(self.id, self.revision)


def parse(text: str) -> Reference:
    """hf://datasets/OWNER/NAME[@REVISION][/PATH], the address of such a page, or OWNER/NAME[@REVISION].

    Raises:
        UsageError: something else.
    """
    from huggingface_hub.errors import HfUriError, HFValidationError
    from huggingface_hub.utils import parse_hf_uri, validate_repo_id  # type: ignore[attr-defined]

    try:
        found = parse_hf_uri(text if text.startswith(URIS) else f"hf://datasets/{text}")
        validate_repo_id(found.id)
    except (HfUriError, HFValidationError) as error:
        raise UsageError(f"{text}: names no dataset of the hub", "hf://datasets/OWNER/NAME") from error
    if found.type != "dataset":
        raise UsageError(f"{text}: names a {found.type}", f"a dataset is hf://datasets/{found.id}")
    return Reference(found.id, found.revision, found.path_in_repo)


@dataclass(frozen=True)
class _Repository:
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
        with hub_errors(self.id):
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
    repository: _Repository = field(compare=False)

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

    def __init__(self, repository: _Repository, name: str) -> None:
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


def open_repository(reference: Reference, pinned: Mapping[str, str]) -> HubPath:
    """List a dataset of the hub at its commit.

    Args:
        pinned: `Reference.pin` → commit that this run has read before; a moving branch stays there.

    Raises:
        UsageError: no such dataset, revision or path in it.
        RpoError: the hub cannot be reached, or wants a login.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    known = pinned.get(reference.pin, reference.revision or "")
    commit = known if COMMIT.fullmatch(known) else hub_commit(reference.id, reference.revision, "dataset")
    with hub_errors(reference.id):
        listing = HfApi().list_repo_tree(reference.id, recursive=True, revision=commit, repo_type="dataset")
        sizes = {item.path: item.size for item in listing if isinstance(item, RepoFile)}
    safe = {name: size for name, size in sizes.items() if _plain(name)}
    found = HubPath(PurePosixPath(reference.inside), _Repository(reference.id, commit, safe))
    if not found.exists():
        raise UsageError(
            f"{found}: no such file or folder in the dataset",
            f"it has: {', '.join(item.name for item in found.top.iterdir())[:300] or 'nothing'}",
        )
    return found


def _plain(name: str) -> bool:
    """Whether a name in a listing is one that a file of a repository can have."""
    parts = PurePosixPath(name).parts
    return bool(parts) and name.isprintable() and ".." not in parts and not name.startswith("/")


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """What the hub's client raises, as an error of ours, which no importer takes for a bad row.

    Raises:
        RpoError: the hub refuses, or does not answer.
    """
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    # the base classes of the hub's own error: OSError, and that of whichever HTTP library it is built on
    unreachable: tuple[type[BaseException], ...] = HfHubHTTPError.__bases__
    try:
        yield
    except GatedRepoError as error:
        raise RpoError(
            f"{what}: the hub gives this dataset only after a licence is accepted",
            f"accept it on https://huggingface.co/datasets/{what}, then: hf auth login, or set HF_TOKEN",
        ) from error
    except HfHubHTTPError as error:
        said = error.server_message or str(error).splitlines()[0]
        raise RpoError(f"{what}: the hub refuses: {said.strip()[:300]}", GO_ON) from error
    except unreachable as error:
        raise RpoError(f"{what}: the hub does not answer ({type(error).__name__})", GO_ON) from error


LOGIN = "hf auth login, or set HF_TOKEN, with a token that may write"


@dataclass(frozen=True)
class Pushed:
    """Where the files are now; `files` counts those of the commit, `deleted` those of an older build."""

    url: str
    commit: str
    private: bool
    files: int
    deleted: int


def upload(folder: Path, names: Sequence[str], repo_id: str, *, public: bool, message: str) -> Pushed:
    """Commit these files of a folder as the dataset `repo_id`, and delete data files of older builds there.

    The endpoint is `huggingface_hub`'s own (HF_ENDPOINT). The token is never an argument of ours.

    Raises:
        UsageError: no name of a repository, no token, or a public repository without `public`.
        RpoError: the hub refuses, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UsageError(f"{repo_id}: no name of a repository", "name it as OWNER/NAME") from error
    if get_token() is None:
        raise UsageError("no token for the hub", LOGIN)
    # the base classes of the hub's own error are those of whichever HTTP library it is built on
    unreachable: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, OfflineModeIsEnabled)
    try:
        api = HfApi()
        there, private = _there(api, repo_id)
        if there is not None and not private and not public:
            raise UsageError(
                f"{repo_id}: is public already, and --public was not given",
                "pass --public if everybody may see these pairs, or name another repository",
            )
        url = api.create_repo(repo_id, repo_type="dataset", private=not public, exist_ok=True)
        stale = sorted(set(there or ()) - set(names))
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names),
            *(CommitOperationDelete(path_in_repo=name) for name in stale),
        ]
        done = api.create_commit(repo_id, operations, commit_message=message, repo_type="dataset")
    except HfHubHTTPError as error:
        raise RpoError(f"{repo_id}: the hub refuses: {_why(error)}", LOGIN) from error
    except unreachable as error:
        raise RpoError(
            f"{repo_id}: cannot reach the hub", "check the network, HF_ENDPOINT and HF_HUB_OFFLINE"
        ) from error
    return Pushed(str(url), done.oid, private if there is not None else not public, len(names), len(stale))


def _there(api: "HfApi", repo_id: str) -> "tuple[list[str] | None, bool]":
    """Data files of the repository (None: there is no such repository) and whether it is private."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        info = api.dataset_info(repo_id)
    except RepositoryNotFoundError:
        return None, True
    names = [item.rfilename for item in info.siblings or []]
    return [name for name in names if name.startswith("data/")], bool(info.private)


def _why(error: Exception) -> str:
    """What the hub said, one line, without the address that it was said to."""
    said = getattr(error, "server_message", None) or str(error).splitlines()[0]
    return str(said).strip()[:300]

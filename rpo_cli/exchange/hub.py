"""Dataset repositories of the Hugging Face hub: read as a folder where they lie, and written in one commit.

Importers read local folders and these alike. The names come in one listing; of a file only the bytes that
are read travel, by range requests of `huggingface_hub`, and nothing is written to disk. The token is that
library's own (login or HF_TOKEN), never an argument of ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rpo_cli.errors import Case, UsageError, translated
from rpo_cli.exchange.places import HUB, HubPath, Repository
from rpo_cli.identity import COMMIT, HUB_ERROR, hub_commit, is_unreachable, pin_name

if TYPE_CHECKING:
    from huggingface_hub import HfApi

URIS = ("hf://", "https://")
_NO_NAME = Case(
    ["huggingface_hub.errors.HfUriError", "huggingface_hub.errors.HFValidationError"],
    "{where}: names no dataset of the hub",
    "hf://datasets/OWNER/NAME",
    UsageError,
)


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
    from huggingface_hub.utils import parse_hf_uri, validate_repo_id  # type: ignore[attr-defined]

    with translated(_NO_NAME, where=text):
        found = parse_hf_uri(text if text.startswith(URIS) else f"hf://datasets/{text}")
        validate_repo_id(found.id)
    if found.type != "dataset":
        raise UsageError(f"{text}: names a {found.type}", f"a dataset is hf://datasets/{found.id}")
    return Reference(found.id, found.revision, found.path_in_repo)


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
    with translated(*HUB, where=reference.id):
        listing = HfApi().list_repo_tree(reference.id, recursive=True, revision=commit, repo_type="dataset")
        sizes = {item.path: item.size for item in listing if isinstance(item, RepoFile)}
    safe = {name: size for name, size in sizes.items() if _plain(name)}
    found = HubPath(PurePosixPath(reference.inside), Repository(reference.id, commit, safe))
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


LOGIN = "hf auth login, or set HF_TOKEN, with a token that may write"
_NO_REPOSITORY = Case(
    ["huggingface_hub.errors.HFValidationError"],
    "{where}: no name of a repository",
    "name it as OWNER/NAME",
    UsageError,
)
_UPLOAD = (
    Case([HUB_ERROR], "{where}: the hub refuses: {why}", LOGIN),
    Case(
        [Exception],
        "{where}: cannot reach the hub",
        "check the network, HF_ENDPOINT and HF_HUB_OFFLINE",
        when=is_unreachable,
    ),
)


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
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    with translated(_NO_REPOSITORY, where=repo_id):
        validate_repo_id(repo_id)
    if get_token() is None:
        raise UsageError("no token for the hub", LOGIN)
    with translated(*_UPLOAD, where=repo_id):
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

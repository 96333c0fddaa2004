"""A dataset folder onto the Hugging Face hub: one commit, private unless asked, no token of ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rpo_cli.errors import RpoError, UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

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

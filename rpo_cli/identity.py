"""Which model exactly: the content hash of a local folder, or the commit of a hub id."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rpo_cli.errors import RpoError, UsageError, nearest

RELEVANT = {".json", ".txt", ".safetensors", ".model", ".jinja"}
PICKLES = {".bin", ".pt", ".ckpt", ".pth", ".pkl"}
CONFIGS = ("model_index.json", "config.json", "adapter_config.json")
ADAPTER = "pytorch_lora_weights.safetensors"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
CHUNK = 2**20


@dataclass(frozen=True)
class ModelIdentity:
    """`revision` is a commit (hub) or the SHA-256 over a folder's relevant files."""

    ref: str
    kind: Literal["folder", "hub"]
    revision: str


def identify(
    ref: str,
    revision: str | None = None,
    *,
    cache: Path | None = None,
    pinned: Mapping[str, str] | None = None,
) -> ModelIdentity:
    """Identify a model without loading it.

    Args:
        cache: JSON file of file hashes by path, size and mtime; None: the user's cache directory.
        pinned: ref → commit that this run resolved before; a moving branch stays where it was.

    Raises:
        UsageError: no such folder, no model in it, pickled weights only, or no hub name.
        RpoError: the hub cannot be reached.
    """
    folder = Path(ref)
    if folder.is_dir():
        return ModelIdentity(ref, "folder", _folder_hash(folder, cache or _user_cache()))
    if folder.exists() or _looks_like_path(ref) or not HUB_ID.fullmatch(ref) or ".." in ref:
        raise UsageError(
            f"{ref}: no such model folder{_siblings(folder)}", "give a folder or a hub id org/name"
        )
    return ModelIdentity(ref, "hub", (pinned or {}).get(ref) or _hub_commit(ref, revision))


def _looks_like_path(ref: str) -> bool:
    return ref.startswith((".", "/", "~")) or ref.count("/") != 1


def _siblings(folder: Path) -> str:
    parent = folder.parent
    names = [item.name for item in parent.iterdir() if item.is_dir()] if parent.is_dir() else []
    return nearest(folder.name, names)


def _folder_hash(folder: Path, cache: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
    _check_folder(folder, files)
    known = _read_cache(cache)
    digest = hashlib.sha256()
    fresh = dict(known)
    for path in files:
        if path.suffix in RELEVANT:
            place, value = _file_hash(path, known)
            fresh[place] = value
            digest.update(f"{path.relative_to(folder).as_posix()}\0{value}\n".encode())
    if fresh != known:
        _write_cache(cache, fresh)
    return digest.hexdigest()


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _check_folder(folder: Path, files: list[Path]) -> None:
    names = {path.relative_to(folder).as_posix() for path in files}
    if not names & {*CONFIGS, ADAPTER}:
        raise UsageError(
            f"{folder}: is no model folder: it has none of {', '.join(CONFIGS)}",
            "give the folder that holds model_index.json (pipelines) or config.json (critics, rewards)",
        )
    if not any(path.suffix == ".safetensors" for path in files):
        pickles = sorted(path.name for path in files if path.suffix in PICKLES)
        what = f"only pickled weights ({', '.join(pickles[:3])})" if pickles else "no weights"
        raise UsageError(
            f"{folder}: holds {what}; a pickle can run code when it is loaded, so none is",
            "get the safetensors version of this model, or convert it with its own library",
        )


def _file_hash(path: Path, known: Mapping[str, str]) -> tuple[str, str]:
    status = path.stat()
    place = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}"
    if place in known:
        return place, known[place]
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return place, digest.hexdigest()


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "rpo" / "hashes.json"


def _read_cache(cache: Path) -> dict[str, str]:
    try:
        return dict(json.loads(cache.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}  # a cache: its loss costs time only


def _write_cache(cache: Path, hashes: Mapping[str, str]) -> None:
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}")
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(hashes, sort_keys=True), encoding="utf-8")
        temporary.replace(cache)
    except OSError:
        return  # a read-only home is fine: the hashes are computed again next time


def _hub_commit(ref: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    # the base classes of the hub's own error are those of whichever HTTP library it is built on
    unreachable: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, OfflineModeIsEnabled)
    try:
        commit = HfApi().model_info(ref, revision=revision).sha
    except unreachable as error:
        for name in CONFIGS:
            cached = try_to_load_from_cache(ref, name, revision=revision)
            if isinstance(cached, str):
                return Path(cached).relative_to(Path(cached).parents[1]).parts[0]
        raise RpoError(
            f"{ref}: the hub cannot be reached and the model is not in the local cache",
            "check the name and the network, give a local folder, or use --preset shapes",
        ) from error
    return str(commit)

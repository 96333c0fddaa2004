"""Which model exactly: the content hash of a local folder, or the commit of a hub id."""

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from rpo_cli.adapters import ADAPTER, config_beside, is_adapter
from rpo_cli.errors import Case, RpoError, UsageError, case_of, nearest, translated
from rpo_cli.hashes import FileHashes, file_hashes
from rpo_cli.model_files import PICKLES, is_single_file
from rpo_cli.single_file import single_file

RELEVANT = {".json", ".txt", ".safetensors", ".model", ".jinja"}
CONFIGS = ("model_index.json", "config.json", "adapter_config.json")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
SECONDS = 10.0  # that the hub may take to answer
PICKLE = "a pickle can run code when it is loaded, so none is"
SINGLE_FILE = "give a .safetensors file of a whole model, or a folder in Hugging Face's layout"


@dataclass(frozen=True)
class ModelIdentity:
    """A model, told apart from every other content of the same name.

    Attributes:
        revision: the commit (hub), or SHA-256 over the names and contents of a folder's relevant files. Of
            a LoRA's file its SHA-256; of a model's file SHA-256 over that and over its configuration.
            Of a model behind a server somewhere nothing more is known than its name: "served:NAME". Of a
            function: "function:" and SHA-256 of its module's file, without what that imports.
        asked: the branch, tag or commit that was asked for; None: the default branch, or a folder.
    """

    ref: str
    kind: Literal["folder", "file", "hub", "served", "function"]
    revision: str
    asked: str | None = None

    @property
    def pin(self) -> str:
        """The name under which run.json keeps the commit."""
        return pin_name(self.ref, self.asked)

    @property
    def commit(self) -> str | None:
        """What a loader must be given as `revision`, so that it loads what was identified."""
        return self.revision if self.kind == "hub" else None

    @property
    def folder(self) -> Path | None:
        """Where the configuration of a local model stands; None: it is not local, or a LoRA's file."""
        if self.kind == "file":
            return None if is_adapter(Path(self.ref)) else single_file(self.ref).config
        return Path(self.ref) if self.kind == "folder" else None


def served(name: str, ref: str | None = None) -> ModelIdentity:
    """The model that a server knows under `name`; `ref` is what the user gave instead of the name."""
    return ModelIdentity(ref or name, "served", f"served:{name}")


def function(place: str) -> ModelIdentity:
    """A "module:function" and the content of its module's file; imports the packages around it.

    Raises:
        UsageError: there is no such module.
    """
    module = place.partition(":")[0]
    try:
        spec = find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise UsageError(
            f"score.functions: {place}: no module '{module}' with a file",
            "install its package, or put its folder on PYTHONPATH",
        )
    digest = hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
    return ModelIdentity(place, "function", f"function:{digest}")


def pin_name(ref: str, revision: str | None) -> str:
    return f"{ref}@{revision}" if revision else ref


def identify(
    ref: str,
    revision: str | None = None,
    *,
    cache: Path | None = None,
    pinned: Mapping[str, str] | None = None,
    rehash: bool = False,
) -> ModelIdentity:
    """Identify a model without loading it.

    Args:
        ref: a local folder or .safetensors file, which wins, or a hub id "org/name".
        revision: branch, tag or commit of a hub id; a folder has none.
        cache: of file hashes, see `hashes.py`; None: the user's.
        pinned: `ModelIdentity.pin` → commit that this run resolved before; a moving branch stays there.
        rehash: read a folder's files, whatever the cache knows of them.

    Raises:
        UsageError: no such folder, no model in it, pickled weights only, no such hub name or revision.
        RpoError: the hub cannot be reached, or wants a login.
    """
    folder = Path(ref)
    if _is_folder(folder):
        return ModelIdentity(ref, "folder", _folder_hash(folder, cache, rehash))
    if is_single_file(ref):
        return ModelIdentity(ref, "file", _file_hash(folder, cache, rehash))
    if _exists(folder):
        raise UsageError(f"{ref}: is a file, not a model folder{_why_not(folder)}", _instead(folder))
    if not HUB_ID.fullmatch(ref) or ".." in ref or _near_folder(folder):
        raise UsageError(
            f"{ref}: no such model folder{_siblings(folder)}", "give a folder or a hub id org/name"
        )
    if revision is not None and COMMIT.fullmatch(revision):
        return ModelIdentity(ref, "hub", revision, revision)
    known = (pinned or {}).get(pin_name(ref, revision), "")
    commit = known if COMMIT.fullmatch(known) else hub_commit(ref, revision)
    return ModelIdentity(ref, "hub", commit, revision)


def _why_not(file: Path) -> str:
    return f", and pickled weights: {PICKLE}" if file.suffix in PICKLES else ""


def _instead(file: Path) -> str:
    if file.suffix not in PICKLES:
        return SINGLE_FILE
    made = file.with_suffix(".safetensors")
    return f"rpo convert {shlex.quote(str(file))} {shlex.quote(str(made))}, and name that"


def _file_hash(file: Path, cache: Path | None, rehash: bool) -> str:
    """Of a LoRA its content and peft's configuration beside it; of a whole model what configures it too."""
    with file_hashes(cache, rehash=rehash) as hashes:
        own = _hash_of(file, hashes)
        if is_adapter(file):
            beside = config_beside(file)
            both = f"{own}\n{_hash_of(beside, hashes)}" if beside else ""
            return hashlib.sha256(both.encode()).hexdigest() if both else own
        config = single_file(str(file)).config
        digest = hashlib.sha256(f"{own}\n".encode())
        for path in sorted(path for path in config.rglob("*") if path.is_file()):
            if path.suffix in RELEVANT and not _hidden(path, config):
                digest.update(f"{path.relative_to(config).as_posix()}\0{_hash_of(path, hashes)}\n".encode())
    return digest.hexdigest()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name too long, forbidden, or with a zero byte
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _near_folder(folder: Path) -> bool:
    """Whether "models/misspelt" is meant as a path: the folder is here and holds a like name."""
    return _is_folder(folder.parent) and bool(_siblings(folder))


def _siblings(folder: Path) -> str:
    try:
        names = [item.name for item in folder.parent.iterdir() if item.is_dir()]
    except (OSError, ValueError):
        return ""
    return nearest(folder.name, names)


def _folder_hash(folder: Path, cache: Path | None, rehash: bool) -> str:
    if not any((folder / name).is_file() for name in (*CONFIGS, ADAPTER)):
        raise UsageError(
            f"{folder}: is no model folder: it has none of {', '.join(CONFIGS)}",
            "give the folder that holds model_index.json (pipelines) or config.json (critics, rewards)",
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
    _refuse_pickles(folder, files)
    digest = hashlib.sha256()
    with file_hashes(cache, rehash=rehash) as hashes:
        for path in files:
            if path.suffix in RELEVANT:
                value = _hash_of(path, hashes)
                digest.update(f"{path.relative_to(folder).as_posix()}\0{value}\n".encode())
    return digest.hexdigest()


def _hash_of(path: Path, hashes: FileHashes) -> str:
    try:
        return hashes.of(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}", "check its permissions") from error


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _refuse_pickles(folder: Path, files: list[Path]) -> None:
    """Every part of a model that has weights must have them as safetensors."""
    parts = [folder, *(folder / name for name in _components(folder))]
    inside = [[path for path in files if path.parent == part] for part in parts]
    for some in (*inside, files):
        pickles = [path.relative_to(folder).as_posix() for path in some if path.suffix in PICKLES]
        if pickles and not any(path.suffix == ".safetensors" for path in some):
            raise UsageError(
                f"{folder}: holds only pickled weights ({', '.join(pickles[:3])}); {PICKLE}",
                f"get this model as safetensors, or make it: {conversion(folder)}, and name the new folder",
            )
    if not any(path.suffix == ".safetensors" for path in files):
        raise UsageError(f"{folder}: holds no weights (no .safetensors file)", "download the model again")


def conversion(folder: Path) -> str:
    """The command that makes safetensors of a folder's pickles, in a folder beside it."""
    return f"rpo convert {shlex.quote(str(folder))} {shlex.quote(f'{folder}-safetensors')}"


def _components(folder: Path) -> Iterator[str]:
    """Folders of a pipeline's parts; names that are no plain folder names are left out."""
    index: Any = _read_json(folder / "model_index.json")
    for name in index if isinstance(index, dict) else ():
        if re.fullmatch(r"[A-Za-z0-9]\w*", name):
            yield name


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


HUB_ERROR = "huggingface_hub.errors.HfHubHTTPError"


def is_unreachable(error: Exception) -> bool:
    """Whether it is of a base class of the hub's own error: of whichever HTTP library that is built on."""
    from huggingface_hub.errors import HfHubHTTPError

    return isinstance(error, HfHubHTTPError.__bases__)


_NO_ANSWER = Case(
    [Exception],
    "{where}: cannot reach the hub, and {here}",
    "check the name and the network, give a local folder{more}",
    when=is_unreachable,
)
_HUB = (
    Case(
        ["huggingface_hub.errors.GatedRepoError"],
        "{where}: the hub gives this {kind} only after a licence is accepted",
        "accept its licence on https://huggingface.co/{folder}{where}, then: hf auth login",
    ),
    Case(
        ["huggingface_hub.errors.RevisionNotFoundError"],
        "{where}: has no revision '{revision}'",
        "see its branches on the hub",
        UsageError,
    ),
    Case(
        ["huggingface_hub.errors.RepositoryNotFoundError"],
        "{where}: no such {what} here, and no such {kind} on the hub",
        "check the spelling; for a private {kind}: hf auth login",
        UsageError,
    ),
    _NO_ANSWER,
)
_WORDS = {
    "model": {
        "folder": "",
        "what": "folder",
        "here": "the model is not in its local cache",
        "more": ", or use --preset shapes",
    },
    "dataset": {
        "folder": "datasets/",
        "what": "file or folder",
        "here": "no such file is here",
        "more": "; see HF_ENDPOINT and HF_HUB_OFFLINE",
    },
}


def hub_commit(ref: str, revision: str | None, kind: Literal["model", "dataset"] = "model") -> str:
    """The commit that a hub id stands for now.

    Raises:
        UsageError: no such name or revision.
        RpoError: the hub cannot be reached (a model may be in its local cache), or wants a login.
    """
    from huggingface_hub import HfApi

    facts = {**_WORDS[kind], "kind": kind, "revision": f"{revision}"}
    with translated(*_HUB, where=ref, **facts):
        try:
            info = HfApi().repo_info(ref, repo_type=kind, revision=revision, timeout=SECONDS)
        except Exception as error:
            silent = case_of(error, _HUB) is _NO_ANSWER
            if silent and kind == "model" and (commit := _cached_commit(ref, revision)):
                return commit
            raise
    if not info.sha:
        raise RpoError(f"{ref}: the hub told no commit", "name one as the revision")
    return info.sha


def _cached_commit(ref: str, revision: str | None) -> str | None:
    """The commit that the hub's local cache holds under this revision."""
    from huggingface_hub import try_to_load_from_cache

    for name in CONFIGS:
        cached = try_to_load_from_cache(ref, name, revision=revision)
        if isinstance(cached, str):  # .../snapshots/<commit>/<name>
            return Path(cached).parent.name
    return None

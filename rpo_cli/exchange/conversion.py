"""What converting pickled weights to safetensors comes to; reads names and indexes, no pickle."""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.identity import PICKLES
from rpo_cli.single_file import single_file

SAFE = ".safetensors"
MAX_FILES, MAX_BESIDE, MAX_INDEX = 10_000, 200 << 20, 64 << 20  # files of a folder, bytes of one
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_INDEX = re.compile(r"(?P<stem>.+)\.bin\.index(?P<variant>(\.\w+)?)\.json")
# what trainers save beside a model; no weights, and mostly objects that weights-only load refuses
_STATE = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state(_\d+)?|random_states_\d+)\.\w+")


@dataclass(frozen=True)
class Converted:
    """What became of a pickle.

    Attributes:
        key: under which the weights stood; "." where the file is the state dict itself.
        bytes: of all tensors. `left_out`: entries beside them that are no tensors.
    """

    source: str
    file: str
    key: str
    tensors: int
    bytes: int
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Conversion:
    """What is to be done, and after it what was.

    Attributes:
        pickles: file with pickled weights → its safetensors file. A folder's files are relative to it.
        indexes: index of shards → its new name. `copied`: files that stay as they are.
        left_out: file → why it is not in OUT.
        converted: what became of each pickle; empty in a dry run.
        config: of a model in one file, the folder or hub id that configures it; None: of pickles.
        beside: the folder that was given for that.
    """

    source: str
    out: str
    pickles: dict[str, str]
    indexes: dict[str, str] = field(default_factory=dict)
    copied: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    converted: tuple[Converted, ...] = ()
    config: str | None = None
    beside: str | None = None


def planned(source: Path, out: Path, config: Path | None = None) -> Conversion:
    """What would be done.

    Raises:
        UsageError: nothing to convert, OUT is there, a link leads out of SOURCE, a shard is missing.
    """
    if not source.exists():
        hint = (
            f"of a model on the hub: hf download {shlex.quote(str(source))} --local-dir FOLDER, then that"
        )
        raise UsageError(f"{source}: no such file or folder", hint)
    refuse_there(out)
    if source.suffix == SAFE and source.is_file() and out.suffix != SAFE:
        used = single_file(str(source), config).source
        return Conversion(str(source), str(out), {}, config=used, beside=str(config) if config else None)
    if config is not None:
        raise UsageError("--config: only of a model in one safetensors file", "leave it out")
    if source.is_dir():
        if out.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{out}: lies inside {source}", "name a folder beside it")
        return _planned_folder(source, out)
    if source.suffix == SAFE:
        raise UsageError(
            f"{source}: is safetensors already",
            "use it as it is, or name a folder OUT for diffusers' layout",
        )
    if out.suffix != SAFE:
        raise UsageError(f"{out}: of a single file OUT is a {SAFE} file", f"for example {out}/model{SAFE}")
    return Conversion(str(source), str(out), {source.name: out.name})


def _planned_folder(source: Path, out: Path) -> Conversion:
    files = sorted(_files(source))
    safe = {(path.parent, _SHARD.sub("", path.stem)) for path in files if path.suffix == SAFE}
    pickles: dict[str, str] = {}
    indexes: dict[str, str] = {}
    left: dict[str, str] = {}
    copied = []
    for path in files:
        index = _INDEX.fullmatch(path.name)
        stem = _renamed(index["stem"] if index else path.stem)
        name, place = path.as_posix(), (path.parent, _SHARD.sub("", stem))
        pickled = path.suffix.lower() in PICKLES
        if pickled and _STATE.fullmatch(path.name):
            left[name] = "a trainer's state, no weights"
        elif (pickled or index) and place in safe:
            left[name] = "there is safetensors of it"
        elif pickled:
            pickles[name] = path.with_name(stem + SAFE).as_posix()
        elif index:
            indexes[name] = path.with_name(f"{stem}{SAFE}.index{index['variant']}.json").as_posix()
        elif path.suffix != SAFE and (source / path).stat().st_size > MAX_BESIDE:
            left[name] = f"larger than {MAX_BESIDE >> 20} MiB, and no weights that are read here"
        else:
            copied.append(name)
    if not pickles:
        raise UsageError(f"{source}: holds no pickled weights to convert", "name the folder as it is")
    twice = [name for name, n in Counter([*pickles.values(), *indexes.values(), *copied]).items() if n > 1]
    if twice:
        raise UsageError(
            f"{source}: several files would become {twice[0]}", "leave one of them in the folder"
        )
    found = Conversion(str(source), str(out), pickles, indexes, tuple(copied), left)
    for name in indexes:
        shards_of(found, name)
    return found


def _files(source: Path) -> Iterator[Path]:
    """The regular files of a folder, relative to it; hidden ones (.git, .cache) are no part of a model.

    Raises:
        UsageError: a link that leads out, a link to a folder, a device or pipe, too many files.
    """
    home, count = source.resolve(), 0
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(home)):
            hint = "hf download ID --local-dir FOLDER makes a folder without links"
            raise UsageError(f"{path}: is a link that leads out of {source} or to a folder", hint)
        if path.is_dir():
            continue
        if not path.is_file():
            raise UsageError(f"{path}: is no regular file", "move it out of the model's folder")
        count += 1
        if count > MAX_FILES:
            raise UsageError(f"{source}: more than {MAX_FILES:,} files", "give the folder of one model")
        yield relative


def _renamed(stem: str) -> str:
    """transformers' name of safetensors weights; other libraries change the suffix only."""
    return re.sub(r"^pytorch_model(?=$|[-.])", "model", stem)


def shards_of(found: Conversion, index: str) -> tuple[dict[str, Any], list[str]]:
    """An index and the pickles it names, relative to the folder.

    Raises:
        UsageError: no index of shards, or a shard that is not there.
    """
    path = Path(found.source, index)
    try:
        text = path.read_bytes() if path.stat().st_size <= MAX_INDEX else b""
        loaded = json.loads(text)
        names = sorted({str(name) for name in loaded["weight_map"].values()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: is no index of shards", "download the model again") from error
    shards = [(PurePosixPath(index).parent / name).as_posix() for name in names]
    lost = [
        shard
        for name, shard in zip(names, shards, strict=True)
        if "/" in name or shard not in found.pickles
    ]
    if lost:
        raise UsageError(f"{path}: the shard {lost[0][:100]} is not there", "download the model again")
    return loaded, shards


def refuse_there(out: Path) -> None:
    """What is there is never replaced."""
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out}: is there already", "name a new OUT, or delete it first")

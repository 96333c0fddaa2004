"""Pickled weights → safetensors: a single file, or a model folder with what stands beside its weights.

What it comes to is planned from names and indexes; no pickle is read for that (`exchange/pickles.py` does).
"""

import json
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rpo_cli.errors import RunLocked, UsageError, disk_errors
from rpo_cli.files import draft_folder, sync, sync_tree
from rpo_cli.model_files import PICKLES, SUFFIX
from rpo_cli.protocols import Observer, Silent
from rpo_cli.single_file import single_file

MAX_FILES, MAX_BESIDE, MAX_INDEX = 10_000, 200 << 20, 64 << 20  # files of a folder, bytes of one
AGAIN = "download the model again"
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_INDEX = re.compile(r"(?P<stem>.+)\.bin\.index(?P<variant>(\.\w+)?)\.json")
# what trainers save beside a model; no weights, and mostly objects that weights-only load refuses
_STATE = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state(_\d+)?|random_states_\d+)\.\w+")


@dataclass(frozen=True)
class Converted:
    """What became of a pickle."""

    source: str
    file: str
    key: str  # under which the weights stood; "." where the file is the state dict itself
    tensors: int
    bytes: int  # of all tensors
    left_out: tuple[str, ...]  # entries beside them that are no tensors


@dataclass(frozen=True)
class Conversion:
    """What is to be done, and after it what was; a folder's files are named relative to it."""

    source: str
    out: str
    pickles: dict[str, str]  # file with pickled weights → its safetensors file
    indexes: dict[str, str] = field(default_factory=dict)  # index of shards → its new name
    copied: tuple[str, ...] = ()  # files that stay as they are
    left_out: dict[str, str] = field(default_factory=dict)  # file → why it is not in OUT
    converted: tuple[Converted, ...] = ()  # what became of each pickle; empty in a dry run
    config: str | None = None  # of a model in one file, the folder or hub id that configures it
    beside: str | None = None  # the folder that was given for that


def convert(
    source: Path,
    out: Path,
    *,
    key: str | None = None,
    config: Path | None = None,
    dry_run: bool = False,
    observer: Observer | None = None,
) -> Conversion:
    """Convert a pickle to the file OUT, or every pickle of a model folder to the new folder OUT.

    Of a model in one safetensors file OUT is a new folder in diffusers' layout. OUT appears whole or not
    at all, after every tensor was read back and compared.

    Args:
        config: of a model in one file, folder of a model of its kind; None: as `single_file` finds it.
        key: where in each file the state dict stands, e.g. "model.state_dict"; None: the only one.
        dry_run: only say what would be done; no pickle is read.

    Raises:
        UsageError: nothing to convert, OUT is there, a link leads out of SOURCE, or a file is refused.
        RunLocked: another process converts to OUT.
        StorageError: OUT cannot be written.
    """
    found, observer = _planned(source, out, config), observer or Silent()
    if dry_run:
        return found
    drafts = f".{out.name}.rpo-draft-"
    with disk_errors(str(out)), draft_folder(out.parent, drafts) as draft:
        if any(each.name.startswith(drafts) and each != draft for each in out.parent.iterdir()):
            raise RunLocked(f"{out}: another rpo is making it", "wait for it to end")
        observer.start("convert", len(found.pickles) or 1, 0)
        if found.config is not None:
            from rpo_cli.exchange.model_folders import unpack  # diffusers

            unpack(single_file(found.source, config), draft)
            observer.advance(1, 0)
        else:
            found = _filled(found, draft, key, observer)
        observer.finish()
        sync_tree(draft)
        _refuse_there(out)
        (draft if source.is_dir() or found.config is not None else draft / out.name).rename(out)
        sync(out.parent)
    return found


def _filled(found: Conversion, draft: Path, key: str | None, observer: Observer) -> Conversion:
    """Everything of a conversion, in the draft."""
    from rpo_cli.exchange.pickles import rewrite  # torch

    source, done, sizes = Path(found.source), [], {}
    root = source if source.is_dir() else source.parent
    for name in (*found.pickles.values(), *found.indexes.values(), *found.copied):
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
    for name, target in found.pickles.items():
        under, sizes[name], rest = rewrite(root / name, draft / target, key)
        done.append(Converted(name, target, under, len(sizes[name]), sum(sizes[name].values()), rest))
        observer.advance(1, 0)
    for name, target in found.indexes.items():  # by what each shard really holds
        named, shards = _shards(found, name)
        places = {tensor: shard for shard in shards for tensor in sizes[shard]}
        if lost := sorted(named - places.keys()):
            raise UsageError(f"{Path(source, name)}: no shard holds {str(lost[0])[:100]}", AGAIN)
        total = sum(sizes[shard][tensor] for tensor, shard in places.items())
        files = {tensor: Path(found.pickles[shard]).name for tensor, shard in sorted(places.items())}
        index = {"metadata": {"total_size": total}, "weight_map": files}
        (draft / target).write_text(json.dumps(index, indent=2), encoding="utf-8")
    for name in found.copied:
        shutil.copyfile(root / name, draft / name)
    return replace(found, converted=tuple(done))


def _planned(source: Path, out: Path, config: Path | None) -> Conversion:
    found = Conversion(str(source), str(out), {})
    if not source.exists():
        hint = (
            f"of a model on the hub: hf download {shlex.quote(str(source))} --local-dir FOLDER, then that"
        )
        raise UsageError(f"{source}: no such file or folder", hint)
    _refuse_there(out)
    if source.suffix == SUFFIX and source.is_file() and out.suffix != SUFFIX:
        used = single_file(str(source), config).source
        return replace(found, config=used, beside=str(config) if config else None)
    if config is not None:
        raise UsageError("--config: only of a model in one safetensors file", "leave it out")
    if source.is_dir():
        if out.resolve().is_relative_to(source.resolve()):
            raise UsageError(f"{out}: lies inside {source}", "name a folder beside it")
        return _planned_folder(found)
    if source.suffix == SUFFIX:
        hint = "use it as it is, or name a folder OUT for diffusers' layout"
        raise UsageError(f"{source}: is safetensors already", hint)
    if out.suffix != SUFFIX:
        hint = f"for example {out}/model{SUFFIX}"
        raise UsageError(f"{out}: of a single file OUT is a {SUFFIX} file", hint)
    return replace(found, pickles={source.name: out.name})


def _planned_folder(found: Conversion) -> Conversion:
    files = sorted(islice(_files(Path(found.source)), MAX_FILES + 1))
    if len(files) > MAX_FILES:
        raise UsageError(f"{found.source}: more than {MAX_FILES:,} files", "give the folder of one model")
    safe = {(path.parent, _SHARD.sub("", path.stem)) for path in files if path.suffix == SUFFIX}
    copied, left, too_large = [], found.left_out, f"larger than {MAX_BESIDE >> 20} MiB"
    for path in files:
        name, index, pickled = str(path), _INDEX.fullmatch(path.name), path.suffix.lower() in PICKLES
        # transformers' name of safetensors weights; other libraries change the suffix only
        stem = re.sub(r"^pytorch_model(?=$|[-.])", "model", index["stem"] if index else path.stem)
        if pickled and _STATE.fullmatch(path.name):
            left[name] = "a trainer's state, no weights"
        elif (pickled or index) and (path.parent, _SHARD.sub("", stem)) in safe:
            left[name] = "there is safetensors of it"
        elif pickled:
            found.pickles[name] = str(path.with_name(stem + SUFFIX))
        elif index:
            found.indexes[name] = str(path.with_name(f"{stem}{SUFFIX}.index{index['variant']}.json"))
        elif path.suffix != SUFFIX and Path(found.source, path).stat().st_size > MAX_BESIDE:
            left[name] = f"{too_large}, and no weights that are read here"
        else:
            copied.append(name)
    if not found.pickles:
        raise UsageError(f"{found.source}: holds no pickled weights to convert", "name the folder as it is")
    made = Counter([*found.pickles.values(), *found.indexes.values(), *copied])
    if twice := [name for name, n in made.items() if n > 1]:
        hint = "leave one of them in the folder"
        raise UsageError(f"{found.source}: several files would become {twice[0]}", hint)
    for name in found.indexes:
        _shards(found, name)
    return replace(found, copied=tuple(copied))


def _files(source: Path) -> Iterator[Path]:
    """The regular files of a folder, relative to it; hidden ones (.git, .cache) are no part of a model."""
    home = source.resolve()
    for path in source.rglob("*"):
        relative = path.relative_to(source)
        if any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(home)):
            hint = "hf download ID --local-dir FOLDER makes a folder without links"
            raise UsageError(f"{path}: is a link that leads out of {source} or to a folder", hint)
        if not path.is_dir() and not path.is_file():
            raise UsageError(f"{path}: is no regular file", "move it out of the model's folder")
        if path.is_file():
            yield relative


def _shards(found: Conversion, index: str) -> tuple[set[Any], list[str]]:
    """The tensors that an index names, and the pickles it names, relative to the folder."""
    path = Path(found.source, index)
    try:
        text = path.read_bytes() if path.stat().st_size <= MAX_INDEX else b""
        places = json.loads(text)["weight_map"]
        names = sorted({str(name) for name in places.values()})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: is no index of shards", AGAIN) from error
    shards = [str(Path(index).parent / name) for name in names]
    for name, shard in zip(names, shards, strict=True):
        if "/" in name or shard not in found.pickles:
            raise UsageError(f"{path}: the shard {shard[:100]} is not there", AGAIN)
    return set(places), shards


def _refuse_there(out: Path) -> None:
    """What is there is never replaced."""
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out}: is there already", "name a new OUT, or delete it first")

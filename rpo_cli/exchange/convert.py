"""Pickled weights → safetensors: a single file, or a model folder with what stands beside its weights."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rpo_cli.errors import RunLocked, UsageError
from rpo_cli.exchange.conversion import Conversion, Converted, planned, refuse_there, shards_of
from rpo_cli.files import disk_errors
from rpo_cli.protocols import Observer, Silent
from rpo_cli.single_file import single_file


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

    Of a model in one safetensors file OUT is a new folder in diffusers' layout.

    OUT appears whole or not at all, after every tensor was read back and compared.

    Args:
        config: of a model in one file, folder of a model of its kind; None: as `single_file` finds it.
        key: where in each file the state dict stands, e.g. "model.state_dict"; None: the only one.
        dry_run: only say what would be done; no pickle is read.

    Raises:
        UsageError: nothing to convert, OUT is there, a link leads out of SOURCE, or a file is refused.
        RunLocked: another process converts to OUT.
        StorageError: OUT cannot be written.
    """
    found = planned(source, out, config)
    if dry_run:
        return found
    observer = observer or Silent()
    with _draft(out) as draft:
        observer.start("convert", len(found.pickles) or 1, 0)
        result = (
            _fill(found, draft, key, observer)
            if found.config is None
            else _unpacked(found, draft, observer)
        )
        observer.finish()
        made = draft if source.is_dir() or found.config is not None else draft / out.name
        refuse_there(out)
        made.rename(out)
        _sync(out.parent)
    return result


def _unpacked(found: Conversion, draft: Path, observer: Observer) -> Conversion:
    from rpo_cli.exchange.model_folders import unpack  # diffusers

    unpack(single_file(found.source, Path(found.beside) if found.beside else None), draft)
    for path in sorted(path for path in draft.rglob("*") if path.is_file()):
        _sync(path)
    observer.advance(1, 0)
    return found


def _fill(found: Conversion, draft: Path, key: str | None, observer: Observer) -> Conversion:
    """Everything of a conversion, in the draft."""
    from rpo_cli.exchange.pickles import rewrite  # torch

    source, done, sizes = Path(found.source), [], {}
    root = source if source.is_dir() else source.parent
    for name, target in found.pickles.items():
        (draft / target).parent.mkdir(parents=True, exist_ok=True)
        under, sizes[name], rest = rewrite(root / name, draft / target, key)
        done.append(Converted(name, target, under, len(sizes[name]), sum(sizes[name].values()), rest))
        observer.advance(1, 0)
    for name, target in found.indexes.items():
        (draft / target).write_text(_index(found, name, sizes), encoding="utf-8")
        _sync(draft / target)
    for name in found.copied:
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, draft / name)
        _sync(draft / name)
    return replace(found, converted=tuple(done))


def _index(found: Conversion, name: str, sizes: Mapping[str, Mapping[str, int]]) -> str:
    """The index of the shards' safetensors files, by what each of them really holds."""
    loaded, shards = shards_of(found, name)
    places = {tensor: shard for shard in shards for tensor in sizes[shard]}
    lost = sorted(loaded["weight_map"].keys() - places.keys())
    if lost:
        where = Path(found.source, name)
        raise UsageError(f"{where}: no shard holds {str(lost[0])[:100]}", "download the model again")
    return json.dumps(
        {
            "metadata": {"total_size": sum(sizes[shard][tensor] for tensor, shard in places.items())},
            "weight_map": {
                tensor: Path(found.pickles[shard]).name for tensor, shard in sorted(places.items())
            },
        },
        indent=2,
    )


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    """An empty folder beside OUT that is gone at the end; what a killed process left in it is cleared.

    Raises:
        RunLocked: another process fills it.
    """
    draft = out.with_name(f".{out.name}.rpo-draft")
    with disk_errors(str(out)):
        draft.mkdir(parents=True, exist_ok=True)
        held = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _hold(held, out)
            for left in draft.iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            try:
                yield draft
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        finally:
            os.close(held)


def _hold(folder: int, out: Path) -> None:
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunLocked(f"{out}: another rpo is making it", "wait for it to end") from error


def _sync(path: Path) -> None:
    held = os.open(path, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)

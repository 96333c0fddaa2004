"""Files and folders that are drafted under a name nobody else has, and take their place in one step.

A process id names nothing here: in containers that share a disk every process may be number 1. So a draft
has a random name and is made with O_EXCL, and whether its writer lives is asked of a kernel lock.
"""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".rpo-tmp-"


def draft_of(path: Path, prefix: str = TEMPORARY) -> Path:
    """A new name beside `path`; without a suffix, since DuckDB's "*.parquet" takes hidden names too."""
    return path.with_name(f"{prefix}{secrets.token_hex(8)}-{path.stem[:64]}")


def create(path: Path, mode: int = 0o666) -> BinaryIO:
    """Open a new file for writing.

    Raises:
        FileExistsError: something stands there, also a link that leads elsewhere.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")


def write_whole(path: Path, data: bytes, *, mode: int = 0o666, prefix: str = TEMPORARY) -> None:
    """Draft, fsync, rename, fsync of the folder: a kill leaves the old file or the new one.

    Raises:
        OSError: the draft is gone, and what was there before still is.
    """
    make_folder(path.parent)
    draft = draft_of(path, prefix)
    try:
        with create(draft, mode) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; a power cut after this does not lose their names."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder: until then a power cut may undo a rename."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below a folder, and the folder itself."""
    for place in sorted(folder.rglob("*"), reverse=True):
        if not place.is_symlink():
            sync(place)
    sync(folder)


@contextmanager
def draft_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` to fill; what of it has not been moved away is gone at the end.

    It is locked while it is filled, so that the next call clears what killed processes have left, and
    nothing of those that live.
    """
    make_folder(parent)
    draft = parent / f"{prefix}{secrets.token_hex(8)}"
    with _held(parent, fcntl.LOCK_EX):  # nobody clears a draft between its birth and its lock
        for left in parent.glob(f"{prefix}*"):
            _clear_dead(left)
        draft.mkdir()
        held = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(held, fcntl.LOCK_EX)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(held)


def _clear_dead(left: Path) -> None:
    with suppress(OSError), _held(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _held(folder: Path, kind: int) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)

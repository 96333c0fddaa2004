"""Kernel-held locks, one per run and stage: gone the moment their process is, also after kill -9."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rpo_cli.errors import RunLocked, disk_errors
from rpo_cli.files import make_folder

Shard = tuple[int, int]


@contextmanager
def stage_lock(folder: Path, stage: str, shard: Shard | None) -> Iterator[None]:
    """Hold a stage of a run. Shards of one stage may run beside each other, never beside the whole stage.

    Raises:
        RunLocked: another process holds it.
        StorageError: the lock's file cannot be made.
    """
    with disk_errors(str(folder)):
        make_folder(folder)
    if shard is None:
        with _flock(folder / f"{stage}.lock", stage, fcntl.LOCK_EX):
            yield
        return
    own = folder / f"{stage}.{shard[0]}-of-{shard[1]}.lock"
    what = f"{stage}, shard {shard[0]}/{shard[1]},"
    with _flock(folder / f"{stage}.lock", stage, fcntl.LOCK_SH), _flock(own, what, fcntl.LOCK_EX):
        yield


@contextmanager
def waiting_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock that everybody holds for milliseconds only; waits for it.

    Raises:
        StorageError: the lock's file cannot be made.
    """
    with disk_errors(str(folder)):
        make_folder(folder)
        descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with disk_errors(str(folder)):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _flock(path: Path, what: str, kind: int) -> Iterator[None]:
    with disk_errors(str(path)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with disk_errors(str(path)):
            _take(descriptor, what, kind)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, what: str, kind: int) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunLocked(
            f"another rpo{_holder(descriptor)} is working on {what} of this run",
            "wait for it to end, or give each process its own --shard i/n",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    """The process that took the lock last, unless it has ended: of several shards another may go on."""
    pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    try:
        os.kill(int(pid), 0)
    except PermissionError:  # it lives, under another user
        pass
    except (OSError, ValueError):
        return ""
    return f" (process {pid})"

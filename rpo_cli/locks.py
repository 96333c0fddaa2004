"""One kernel-held lock per run and stage: gone the moment its process is, also after kill -9."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rpo_cli.errors import RunLocked

Shard = tuple[int, int]


@contextmanager
def stage_lock(folder: Path, stage: str, shard: Shard | None) -> Iterator[None]:
    """Hold a stage of a run. Shards of one stage may run beside each other, never beside the whole stage.

    Raises:
        RunLocked: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        whole = fcntl.LOCK_EX if shard is None else fcntl.LOCK_SH
        held.enter_context(_flock(folder / f"{stage}.lock", stage, whole))
        if shard is not None:
            name = f"{stage}.{shard[0]}-of-{shard[1]}.lock"
            held.enter_context(
                _flock(folder / name, f"{stage}, shard {shard[0]}/{shard[1]}", fcntl.LOCK_EX)
            )
        yield


@contextmanager
def _flock(path: Path, what: str, kind: int) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            raise RunLocked(
                f"another rpo (process {holder}) is working on {what} of this run",
                "wait for it to end, or give each process its own --shard i/n",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)

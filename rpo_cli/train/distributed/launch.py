"""`train.processes = N`: this process is the first of N, and starts the others itself.

A helper is told its share of the training in one pickle and computes it; it writes no file and ends when
this process does. On one machine only: `accelerate launch` starts processes on several.
"""

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import torch

from rpo_cli.compute import launched
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.train.distributed.process_group import ALONE, LostProcess, World, joined, loopback

Share = Callable[[World], object]  # what one process does of a training; it pickles
READY = b"ready\n"
GRACE = 20.0  # seconds that a helper is given to end by itself
# isolated: a helper imports what this process would, and nothing of the current folder
PROGRAM = """
import sys
sys.path[:] = sys.argv[1:]
from rpo_cli.train.distributed.launch import help_out
sys.exit(help_out(sys.stdin.buffer))
"""


@dataclass(frozen=True)
class Helper:
    """A process beside the first one."""

    rank: int
    process: "subprocess.Popen[bytes]"
    said: Path  # its stderr


@contextmanager
def crew(
    settings: TrainSettings, device: str, share: Callable[[str], Share], items: str = "pairs"
) -> Iterator[World]:
    """The processes of a training: those of a launcher, or N of our own, or this one alone.

    Args:
        share: the device of a helper → what it does.
        items: what a step consists of.

    Raises:
        UsageError: more processes than GPUs or items of a step.
        RpoError: a helper ended.
    """
    launch = launched()
    require_room(max(launch.size, settings.processes), settings, device, items)
    if launch.size > 1:
        with joined(launch.rank, launch.size, device) as world:
            yield world
    elif settings.processes > 1:
        with (
            TemporaryDirectory(prefix="rpo-") as folder,
            _with_helpers(settings.processes, device, share, Path(folder)) as world,
        ):
            yield world
    else:
        yield ALONE


def require_room(processes: int, settings: TrainSettings, device: str, items: str = "pairs") -> None:
    """Refuse processes that have nothing to do or nowhere to run."""
    launch = launched()
    if launch.size > 1 and settings.processes > 1:
        raise UsageError(
            f"--processes {settings.processes}: this is already one of {launch.size} processes",
            "use --processes without a launcher, or `accelerate launch` without --processes",
        )
    if processes > settings.global_batch:
        raise UsageError(
            f"{processes} processes share the {settings.global_batch} {items} of a step",
            "raise train.global_batch, or start fewer processes",
        )
    here = settings.processes if launch.size == 1 else launch.local + 1
    if device.startswith("cuda") and here > torch.cuda.device_count():
        raise UsageError(
            f"{here} processes on this machine, and it has {torch.cuda.device_count()} GPUs",
            "start one process a GPU",
        )


def threads_each(threads: int, processes: int) -> int:
    """CPU threads of a process, unless they were named: several share those of the machine."""
    return threads if threads or processes == 1 else max(1, (os.cpu_count() or 1) // processes)


def device_of(device: str, local: int) -> str:
    """Each process of a machine has a GPU of its own."""
    return f"cuda:{local}" if torch.device(device).type == "cuda" else device


@contextmanager
def _with_helpers(count: int, device: str, share: Callable[[str], Share], folder: Path) -> Iterator[World]:
    meeting = f"file://{folder / 'meeting'}"
    helpers: list[Helper] = []
    os.environ.update(loopback())
    try:
        for rank in range(1, count):
            own = device_of(device, rank)
            told = pickle.dumps((share(own), rank, count, own, meeting))
            helpers.append(_start(told, rank, folder / f"{rank}.log"))
        for helper in helpers:
            if helper.process.stdout is None or helper.process.stdout.readline() != READY:
                raise LostProcess("a process did not start", "")
        with joined(0, count, device_of(device, 0), meeting) as world:
            yield world
    except LostProcess as error:
        raise _story(helpers, error) from error
    finally:
        _end(helpers)


def _start(told: bytes, rank: int, said: Path) -> Helper:
    with said.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # an interrupt at the terminal goes to the first process alone
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it ended at once: its log says why
        process.stdin.write(told)
        process.stdin.flush()
    return Helper(rank, process, said)


def _story(helpers: Sequence[Helper], error: LostProcess) -> RpoError:
    """Which helper ended, and what it said."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        for helper in helpers:
            if helper.process.poll():
                return RpoError(
                    f"process {helper.rank} of {len(helpers) + 1} ended: {_last_words(helper)}",
                    "nothing is lost: the same command goes on from the last checkpoint",
                )
        time.sleep(0.1)
    return error


def _last_words(helper: Helper) -> str:
    code = helper.process.returncode
    lines = helper.said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code < 0:
        return f"signal {-code}"
    return lines[-1] if lines else f"exit code {code}"


def _end(helpers: Sequence[Helper]) -> None:
    """A helper ends when its input does; one that hangs is killed."""
    for helper in helpers:
        for pipe in (helper.process.stdin, helper.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
    for helper in helpers:
        try:
            helper.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            helper.process.kill()
            helper.process.wait()


def help_out(source: IO[bytes]) -> int:
    """What a helper does: its share of one training. Returns its exit code."""
    share, rank, count, device, meeting = pickle.load(source)
    sys.stdout.buffer.write(READY)  # from here on the first process waits for this one
    sys.stdout.flush()
    threading.Thread(target=_end_with, args=(source,), daemon=True).start()
    try:
        with joined(rank, count, device, meeting) as world:
            share(world)
    except RpoError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    return 0


def _end_with(source: IO[bytes]) -> None:
    """End when the first process closes its side, however it ended."""
    source.read()
    os._exit(1)

"""Stages for the tests of engines: a module on disk, as workers must import what they are sent."""

import os
import signal
import struct
import sys
import time
import warnings
from pathlib import Path

from rpo_cli.errors import UsageError
from rpo_cli.protocols import Stage, Task


class Backend:
    """Writes down who it is, in which process and when it was closed."""

    def __init__(self, folder, lanes=0, environment=""):
        self.folder, self.lanes, self.environment = Path(folder), lanes, environment

    def setup(self):
        (self.folder / f"up-{os.getpid()}").touch()

    def close(self):
        (self.folder / f"closing-{os.getpid()}").touch()
        time.sleep(0.2)
        (self.folder / f"closed-{os.getpid()}").touch()


class Build:
    def __init__(self, *about):
        self.about = about

    def __call__(self):
        return Backend(*self.about)


def step(tasks, backend, size):
    """A payload names what happens to its batch; others give (key, pid, batch size, GPU, environment)."""
    for what in {task.payload for task in tasks}:
        _happen(what, backend, size)
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [(task.key, os.getpid(), size, gpu, backend.environment) for task in tasks]


def _happen(what, backend, size):
    once = backend.folder / "once"
    if what == "slow":
        time.sleep(0.05)
    elif what == "very slow":
        time.sleep(60)
    elif what == "kill" or (what == "kill once" and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "die speaking" and not once.exists():
        once.touch()
        os.write(int(sys.argv[1]), struct.pack("!i", 10**6) + b"the first words")
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "warn":
        warnings.warn("old ways", FutureWarning, stacklevel=2)
    elif what == "memory" and size > 2:
        raise MemoryError
    elif what == "refuse":
        raise UsageError("no such thing", "ask for another")
    elif what == "bug":
        raise ZeroDivisionError("of ours")


class Unreadable:
    """A payload that no other process can read."""

    def __reduce__(self):
        return int, ("no number",)


def make(folder, lanes=0, batch_size=4):
    """What an engine is given: (device, environment) → stage."""
    return lambda device, said: Stage("edit", "edits", batch_size, Build(folder, lanes, said), step)


def tasks(count, what="slow", at=()):
    """`count` tasks; those at the places `at` carry `what`, all of them when none is named."""
    return [Task(f"{n:03}", "", what if not at or n in at else "") for n in range(count)]

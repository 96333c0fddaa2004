"""A worker: one device of its own, batches in, rows out. The engine alone reads and writes the run.

It is told the device to look for, a stage, batches, and at the end None; it tells the events below.
"""

import queue
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rpo_cli import __version__
from rpo_cli.compute import environment, pick_device, set_threads
from rpo_cli.engines.loop import run_batches
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Results, Stage, Task
from rpo_cli.records import canonical_json

Batch = list[Task]


@dataclass(frozen=True)
class Hello:
    """A worker is there: its device, and what the bits of its rows depend on (`compute.environment`)."""

    device: str
    environment: str
    rpo: str = __version__


@dataclass(frozen=True)
class Made:
    """Rows and rejects, and the keys of the tasks that they came of."""

    keys: tuple[str, ...]
    results: Results


@dataclass(frozen=True)
class Note:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class Failed:
    """The worker gave up; `trace` is the traceback as text, which does not travel with an exception."""

    error: Exception
    trace: str


@dataclass(frozen=True)
class Lost:
    """The worker is gone without a word: killed, or out of memory, or its machine is off."""

    how: str


Event = Hello | Made | Note | Failed | Lost


@dataclass
class Worker:
    """One stage at work on one device; `put` may be called from another thread than `work`."""

    send: Callable[[Event], None]
    device: str
    threads: int
    inbox: "queue.SimpleQueue[Batch | None]" = field(default_factory=queue.SimpleQueue)

    def hello(self) -> None:
        """Look for the device and tell of it, or tell why not."""
        try:
            set_threads(self.threads)
            device = pick_device(self.device)
            self.send(Hello(device, canonical_json(environment(device))))
        except RpoError as error:
            self.send(failed(error))

    def put(self, batch: Batch | None) -> None:
        self.inbox.put(batch)

    def work(self, stage: Stage) -> None:
        """Make what is put until None is; every end but that of the process is told."""
        try:
            set_threads(self.threads)  # a thread has a count of its own
            run_batches(stage, self._batches(), self._made, lambda text: self.send(Note(text)))
        except Exception as error:  # noqa: BLE001 -- raised again in the engine's process
            self.send(failed(error))

    def _batches(self) -> Iterator[Batch]:
        while (batch := self.inbox.get()) is not None:
            yield batch

    def _made(self, tasks: Batch, results: Results) -> None:
        self.send(Made(tuple(task.key for task in tasks), results))


def failed(error: Exception) -> Failed:
    """The exception being handled: itself where another process surely knows its class, and can make it."""
    trace = traceback.format_exc()
    known = isinstance(error, RpoError) or type(error).__module__ == "builtins"
    told = error if known else RuntimeError(f"{type(error).__name__}: {error}")
    return Failed(told.with_traceback(None), trace)

"""Batches over workers, wherever these are: each has the next one at hand; what a lost one had goes on.

It is told the device to look for, a stage, batches, and at the end None; it tells the events below.
"""

import queue
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from rpo_cli.compute import environment, pick_device, set_threads
from rpo_cli.config import RunSettings
from rpo_cli.engines.loop import buckets, run_batches, run_here
from rpo_cli.errors import RpoError
from rpo_cli.protocols import MakeStage, Results, Stage, Task
from rpo_cli.records import canonical_json
from rpo_cli.version import __version__

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
            run_batches(stage, self._batches(), self._send_rows, lambda text: self.send(Note(text)))
        except Exception as error:  # noqa: BLE001 -- raised again in the engine's process
            self.send(failed(error))

    def _batches(self) -> Iterator[Batch]:
        while (batch := self.inbox.get()) is not None:
            yield batch

    def _send_rows(self, tasks: Batch, results: Results) -> None:
        self.send(Made(tuple(task.key for task in tasks), results))


def failed(error: Exception) -> Failed:
    """The exception being handled: itself where another process surely knows its class, and can make it."""
    trace = traceback.format_exc()
    known = isinstance(error, RpoError) or type(error).__module__ == "builtins"
    told = error if known else RuntimeError(f"{type(error).__name__}: {error}")
    return Failed(told.with_traceback(None), trace)


Sink = Callable[[Results], None]
Tell = Callable[[str], None]


class Pool(Protocol):
    """Workers by number, 0 up to `count`, wherever they run."""

    count: int

    def begin(self, worker: int, stage: Stage) -> None:
        """After its Hello: let a worker load the stage's model."""

    def put(self, worker: int, batch: Batch | None) -> None:
        """Give a worker a batch; None: there are no more."""

    def event(self) -> tuple[int, Event]:
        """The next event of any worker; waits for it. After Failed or Lost none comes of that worker."""

    def close(self) -> None:
        """End every worker, whatever it does."""


def alone(make: MakeStage, tasks: Iterable[Task], sink: Sink, note: Tell, settings: RunSettings) -> None:
    """Make the rows of `tasks` in this process, on its own device.

    Raises:
        UsageError: the device of the settings is not on this machine.
    """
    set_threads(settings.threads)
    device = pick_device(settings.device)
    stage = make(device, canonical_json(environment(device)))
    run_here(stage, tasks, lambda _, results: sink(results), note)


def spread(
    make: MakeStage,
    tasks: Iterable[Task],
    sink: Sink,
    note: Tell,
    settings: RunSettings,
    pool: Callable[[], Pool],
) -> None:
    """Make the rows of `tasks` on the workers of a pool, which is opened only when there is a task.

    A backend whose rows wait for a server is run in this process: it needs no device, and its lanes are
    the server's to bear, however many workers there are.

    Raises:
        RpoError: a worker failed, or the last of them was lost.
    """
    rest = iter(tasks)
    first = next(rest, None)
    if first is None:
        return
    found, plain = chain([first], rest), make("cpu", "{}")
    if getattr(plain.build(), "lanes", 0):
        alone(make, found, sink, note, settings)
        return
    workers = pool()
    try:
        _Round(make, buckets(plain, found), sink, note, workers, plain).walk()
    finally:
        workers.close()


@dataclass
class _Round:
    """One stage on one pool. A batch is in `held` from when it is put until all its rows are made."""

    make: MakeStage
    batches: Iterator[Batch]
    sink: Sink
    note: Tell
    pool: Pool
    plain: Stage
    held: dict[int, dict[str, Task]] = field(default_factory=dict)  # of the workers that said hello
    idle: dict[int, Stage] = field(default_factory=dict)  # the stages of those without work
    back: list[Batch] = field(default_factory=list)  # what lost workers had
    told: set[str] = field(default_factory=set)
    lost: int = 0

    def walk(self) -> None:
        while self._more():
            self._take(*self.pool.event())
        for worker in self.held.keys() - self.idle.keys():
            self.pool.put(worker, None)

    def _more(self) -> bool:
        """Give every worker the next batch before it has made the one at hand; False: all is made."""
        for worker, held in self.held.items():
            while len(held) <= self.plain.batch_size and (batch := self._next()):
                held.update((task.key, task) for task in batch)
                if worker in self.idle:
                    self.pool.begin(worker, self.idle.pop(worker))
                self.pool.put(worker, batch)
        return bool(self.back) or any(self.held.values()) or not self.held

    def _next(self) -> Batch | None:
        return self.back.pop() if self.back else next(self.batches, None)

    def _take(self, worker: int, event: Event) -> None:
        match event:
            case Hello():
                self._welcome(worker, event)
            case Made(keys, results):
                for key in keys:
                    del self.held[worker][key]
                self.sink(results)
            case Note(text) if text not in self.told:
                self.told.add(text)
                self.note(text)
            case Failed(error, trace):
                error.add_note(trace)
                raise error
            case Lost(how):
                self._without(worker, how)

    def _welcome(self, worker: int, hello: Hello) -> None:
        if hello.rpo != __version__:
            raise RpoError(
                f"worker {worker} runs rpo {hello.rpo}, this is {__version__}",
                "install one version everywhere",
            )
        self.idle[worker] = self.make(hello.device, hello.environment)
        self.held[worker] = {}

    def _without(self, worker: int, how: str) -> None:
        """Go on with the others; their rows are the same."""
        self.lost += 1
        self.idle.pop(worker, None)
        left = list(self.held.pop(worker, {}).values())
        self.back += buckets(self.plain, left)
        if self.lost == self.pool.count:
            raise RpoError(
                f"{self.plain.name}: every worker was lost; the last: {how}",
                "if memory ran out, fewer run.workers or a smaller batch; the same command goes on",
            )
        rest = f"make its {len(left)} row{'s' * (len(left) > 1)}" if left else "go on"
        self.note(f"{self.plain.name}: a worker was lost ({how}); the others {rest}")

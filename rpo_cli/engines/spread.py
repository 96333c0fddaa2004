"""Batches over workers: each has the next one at hand while it is at work; what a lost one had goes on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol

from rpo_cli import __version__
from rpo_cli.compute import environment, pick_device, set_threads
from rpo_cli.config import RunSettings
from rpo_cli.engines.loop import buckets, run_here
from rpo_cli.engines.worker import Batch, Event, Failed, Hello, Lost, Made, Note
from rpo_cli.errors import RpoError
from rpo_cli.protocols import MakeStage, Results, Stage, Task
from rpo_cli.records import canonical_json

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

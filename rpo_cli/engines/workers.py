"""Batches over workers, wherever these are: each has the next one at hand; what a lost one had goes on.

A worker is told the device to look for, a stage, batches, and at the end None; it tells the events of
`loop.py`. The local engine's workers are processes on this machine, each at the end of a pipe: one ends
when its pipe does, so none outlives its engine, whatever killed that.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from types import FrameType
from typing import Any, NoReturn, Protocol

from rpo_cli.children import Child, begin, end, own_command
from rpo_cli.compute import pick_device
from rpo_cli.config import RunSettings
from rpo_cli.engines.loop import (
    Batch,
    Event,
    Failed,
    Hello,
    Lost,
    Made,
    Note,
    Sink,
    Tell,
    Worker,
    alone,
    buckets,
    failed,
)
from rpo_cli.errors import RpoError, Terminated, UsageError
from rpo_cli.protocols import MakeStage, Stage, Task
from rpo_cli.version import __version__


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


GRACE = 5.0  # seconds that a worker is given to end by itself; a command that is stopped waits for it


class Processes:
    """Workers in processes of their own (`spread.Pool`); they end when this process does."""

    def __init__(self, device: str, threads: int, gpus: Sequence[str]) -> None:
        """`gpus`: one name for CUDA_VISIBLE_DEVICES per worker; "" leaves it as it is."""
        self.count = len(gpus)
        self._lines: dict[int, Connection] = {}
        self._children: list[Child] = []
        for worker, gpu in enumerate(gpus):
            ours, theirs = Pipe()
            with theirs:
                self._children.append(_begun(theirs.fileno(), gpu))
            self._lines[worker] = ours
            ours.send((device, threads))

    def begin(self, worker: int, stage: Stage) -> None:
        self._send(worker, stage)

    def put(self, worker: int, batch: Batch | None) -> None:
        self._send(worker, batch)

    def _send(self, worker: int, what: Stage | Batch | None) -> None:
        with suppress(BrokenPipeError, ConnectionResetError, KeyError):  # `event` tells that it is lost
            self._lines[worker].send(what)

    def event(self) -> tuple[int, Event]:
        (ready, *_) = wait(list(self._lines.values()))
        worker = next(number for number, line in self._lines.items() if line is ready)
        try:
            event: Event = _receive(self._lines[worker])
            return worker, event
        except EOFError:
            self._lines.pop(worker).close()
            return worker, Lost(_ended(self._children[worker]))

    def close(self) -> None:
        for line in self._lines.values():
            line.close()
        end(self._children, GRACE)


def _begun(pipe: int, gpu: str) -> Child:
    """A worker at its end of the pipe; no Ctrl-C of the terminal reaches it, its engine tells it."""
    command = own_command("rpo_cli.engines.workers:serve", str(pipe))
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
    return begin(command, environment=environment, stdin=subprocess.DEVNULL, pipes=[pipe])


def _ended(child: Child) -> str:
    """How a worker whose pipe is gone has ended."""
    try:
        code = child.process.wait(GRACE)
    except subprocess.TimeoutExpired:
        return "it let go of its pipe"
    return signal.strsignal(-code) or f"signal {-code}" if code < 0 else f"exit {code}"


def serve() -> None:
    """The worker's end: say hello, take a stage, then batches until None."""
    pipe = int(sys.argv[1])
    signal.signal(signal.SIGTERM, _terminated)
    os.set_inheritable(pipe, False)  # what a backend starts must not keep it open
    line, sending = Connection(pipe), threading.Lock()

    def send(event: Event) -> None:
        with sending:  # rows come from the thread that encodes them, notes from this one
            line.send(event)

    try:
        device, threads = _receive(line)
        worker = Worker(send, device, threads)
        worker.hello()
        _work(line, worker)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # there is no engine any more
    except Terminated as stopped:
        sys.exit(stopped.exit_code)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is ending


def _work(line: Connection, worker: Worker) -> None:
    try:
        stage: Stage = _receive(line)
    except EOFError:
        raise
    except Exception as error:  # noqa: BLE001 -- a stage that this process cannot read
        worker.send(failed(error))
        return
    threading.Thread(target=_listen, args=(line, worker), daemon=True).start()
    worker.work(stage)


def _listen(line: Connection, worker: Worker) -> None:
    """Batches into the inbox as they come; without an engine there is nothing left to do."""
    try:
        while (batch := _receive(line)) is not None:
            worker.put(batch)
        worker.put(None)
    except EOFError:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE)
        os._exit(Terminated.exit_code)
    except Exception as error:  # noqa: BLE001 -- a batch that this process cannot read
        worker.send(failed(error))
        _listen(line, worker)  # to its end, which this engine now makes


def _receive(line: Connection) -> Any:
    """The next message of the other end.

    Raises:
        EOFError: it is gone, be it in the middle of a message.
    """
    try:
        message = line.recv_bytes()
    except OSError as error:
        raise EOFError from error
    return pickle.loads(message)  # of our own process at the other end, by a pipe that no other has


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop a backend's closing
    raise Terminated


class LocalEngine:
    """Runs a stage in this process; with `run.workers` beyond 1 in as many processes, each with its model.

    Left open, that is one worker per CUDA device and one on any other machine.
    """

    def __init__(self, note: Tell, settings: RunSettings) -> None:
        self._note, self._settings, self.workers = note, settings, 1

    def run(self, make: MakeStage, tasks: Iterable[Task], sink: Sink) -> None:
        device = pick_device(self._settings.device)
        gpus = visible_gpus() if device == "cuda" else []
        count = self._settings.workers or max(1, len(gpus))
        if gpus and count > len(gpus):
            raise UsageError(
                f"run.workers: {count} workers, and this machine shows {len(gpus)} GPUs",
                "one worker a GPU at most; CUDA_VISIBLE_DEVICES says which are shown",
            )
        self.workers = count
        if count == 1:
            alone(make, tasks, sink, self._note, self._settings)
        else:
            threads = self._settings.threads or max(1, (os.cpu_count() or 1) // count)
            pool = partial(Processes, device, threads, gpus[:count] or [""] * count)
            spread(make, tasks, sink, self._note, self._settings, pool)


def visible_gpus() -> list[str]:
    """The CUDA devices that processes of this one's environment may see, by name for CUDA_VISIBLE_DEVICES.

    Of slices of a GPU (MIG) a process sees one alone, so those that are named count, not those it sees.
    """
    import torch

    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    if named and all(name.startswith("MIG-") for name in named):
        return named
    count = torch.cuda.device_count()
    return named[:count] if named else [str(index) for index in range(count)]

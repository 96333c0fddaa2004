"""One process's share of a stage: its model, batch by batch, row by row, or many rows in flight.

As a worker it makes the batches that it is sent, and tells events.
"""

import queue
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Any, TypeVar

from rpo_cli.compute import environment, is_out_of_memory, pick_device, set_threads
from rpo_cli.config import RunSettings
from rpo_cli.errors import RpoError, Spent
from rpo_cli.protocols import MakeStage, Results, Stage, Task
from rpo_cli.records import canonical_json
from rpo_cli.version import __version__

Sink = Callable[[Results], None]
Tell = Callable[[str], None]
Done = Callable[[list[Task], Results], None]  # told of the tasks that are done and what came of them


def alone(make: MakeStage, tasks: Iterable[Task], sink: Sink, note: Tell, settings: RunSettings) -> None:
    """Make the rows of `tasks` in this process, on its own device.

    Raises:
        UsageError: the device of the settings is not on this machine.
    """
    set_threads(settings.threads)
    device = pick_device(settings.device)
    stage = make(device, canonical_json(environment(device)))
    run_here(stage, tasks, lambda _, results: sink(results), note)


def run_here(stage: Stage, tasks: Iterable[Task], made: Done, note: Tell) -> None:
    """Make the rows of `tasks` in this process; without any the backend is not built."""
    rest = iter(tasks)
    first = next(rest, None)
    if first is None:
        return
    backend = stage.build()
    found = chain([first], rest)
    if getattr(backend, "lanes", 0):
        with _ready(stage, backend, note):
            _in_lanes(stage, found, backend, made)
    else:
        run_batches(stage, buckets(stage, found), made, note, backend=backend)


def run_batches(
    stage: Stage, batches: Iterable[list[Task]], made: Done, note: Tell, *, backend: Any = None
) -> None:
    """Make batches whose tasks share a bucket, each of at most `stage.batch_size`.

    A batch that does not fit in memory is halved, and the rest of the stage goes on at that size; the
    rows say which size made them.
    """
    backend = stage.build() if backend is None else backend
    size = stage.batch_size
    pending: Future[None] | None = None
    with (
        _ready(stage, backend, note),
        ThreadPoolExecutor(max_workers=1, thread_name_prefix="rpo-writer") as writer,
    ):
        told = len(getattr(backend, "notes", ()))
        for bucket in batches:
            for batch, outputs, used in _halving(stage, bucket, backend, size, note):
                size = used
                for text in getattr(backend, "notes", ())[told:]:
                    note(f"{stage.name}: {text}")
                    told += 1
                if pending is not None:
                    pending.result()
                pending = writer.submit(_finish, stage, batch, outputs, used, made)
        if pending is not None:
            pending.result()


@contextmanager
def _ready(stage: Stage, backend: Any, note: Tell) -> Iterator[None]:
    """The backend with its weights loaded; closed at the end, whatever happened."""
    try:
        backend.setup()
        for text in getattr(backend, "notes", ()):
            note(f"{stage.name}: {text}")
        yield
    finally:
        if hasattr(backend, "close"):
            backend.close()


def _in_lanes(stage: Stage, tasks: Iterable[Task], backend: Any, made: Done) -> None:
    """Row by row; a row that a server leaves without an answer stays missing, while it answers any.

    Raises:
        Spent: what the user allowed is used up; every answer that was asked for is kept.
        RpoError: rows are still missing.
    """

    def work(task: Task) -> Any:
        return stage.step([task], backend, 1)

    lost: list[RpoError] = []
    spent: list[Spent] = []
    in_a_row = 0
    for task, outputs in in_lanes(work, takewhile(lambda _: not spent, tasks), backend.lanes):
        if isinstance(outputs, Spent):  # what is in flight is still answered
            spent.append(outputs)
        elif isinstance(outputs, RpoError):
            lost.append(outputs)
            in_a_row += 1
            if in_a_row >= backend.lanes:  # nobody got an answer: there is no server any more
                break
        else:
            in_a_row = 0
            _finish(stage, [task], outputs, 1, made)
    if spent:
        raise spent[0]
    if lost:
        rows = "1 row is" if len(lost) == 1 else f"{len(lost)} rows are"
        raise RpoError(f"{stage.name}: {rows} still missing: {lost[0].message}", lost[0].hint)


def _halving(
    stage: Stage, tasks: list[Task], backend: Any, size: int, note: Tell
) -> Iterator[tuple[list[Task], list[Any], int]]:
    done = 0
    while done < len(tasks):
        batch = tasks[done : done + size]
        try:
            outputs = stage.step(batch, backend, size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if size == 1:
                raise RpoError(
                    f"{stage.name}: out of memory at batch size 1",
                    "use a smaller image size, --dtype float16, or a larger device; nothing is lost",
                ) from error
            size //= 2
            note(f"{stage.name}: out of memory, going on with batch size {size}")
            continue
        yield batch, outputs, size
        done += len(batch)


def _finish(stage: Stage, tasks: list[Task], outputs: list[Any], size: int, made: Done) -> None:
    made(tasks, stage.finish(tasks, outputs, size))


def buckets(stage: Stage, tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Full batches as soon as a bucket has one; what is left of each bucket at the end."""
    found: dict[Any, list[Task]] = {}
    for task in tasks:
        bucket = found.setdefault(stage.bucket(task), [])
        bucket.append(task)
        if len(bucket) == stage.batch_size:
            yield list(bucket)
            bucket.clear()
    yield from (bucket for bucket in found.values() if bucket)


T = TypeVar("T")
AHEAD = 2  # tasks that are taken per lane, so that no lane waits while a part is written


def in_lanes(
    work: Callable[[T], Any], items: Iterable[T], lanes: int
) -> Iterator[tuple[T, Any | RpoError]]:
    """(item, its result) as they come, `lanes` at a time; an RpoError of `work` is a result.

    The threads are daemons: an interrupted command ends at once, and does not wait for servers.
    """
    todo: queue.SimpleQueue[T | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[T, Any]] = queue.SimpleQueue()
    stopped = threading.Event()
    for _ in range(lanes):
        threading.Thread(target=_lane, args=(work, todo, done, stopped), daemon=True).start()
    source, waiting, more = iter(items), 0, True
    try:
        while more or waiting:
            while more and waiting < lanes * AHEAD:
                try:
                    todo.put(next(source))
                    waiting += 1
                except StopIteration:
                    more = False
            if waiting:
                item, result = done.get()
                waiting -= 1
                if isinstance(result, BaseException) and not isinstance(result, RpoError):
                    raise result
                yield item, result
    finally:
        stopped.set()
        for _ in range(lanes):
            todo.put(None)


def _lane(
    work: Callable[[T], Any],
    todo: "queue.SimpleQueue[T | None]",
    done: "queue.SimpleQueue[tuple[T, Any]]",
    stopped: threading.Event,
) -> None:
    while (item := todo.get()) is not None and not stopped.is_set():
        try:
            done.put((item, work(item)))
        except BaseException as error:  # noqa: BLE001 -- raised again on the thread that reads the results
            done.put((item, error))


# --- as a worker ---------------------------------------------------------------------------------------

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

"""The local engine: one model in this process; rows are encoded and written beside the next batch."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from typing import Any

from rpo_cli.compute import is_out_of_memory
from rpo_cli.engines.lanes import in_lanes
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Results, Stage, Task

Sink = Callable[[Results], None]
Note = Callable[[str], None]


class LocalEngine:
    """Runs a stage in this process: batch by batch, or row by row in the backend's lanes.

    A batch that does not fit in memory is halved, and the rest of the stage goes on at that size; the
    rows say which size made them. A row that a server leaves without an answer stays missing; the others
    are made all the same while the server answers any.
    """

    def __init__(self, note: Note) -> None:
        self._note = note

    def run(self, stage: Stage, tasks: Iterable[Task], sink: Sink) -> None:
        rest = iter(tasks)
        first = next(rest, None)
        if first is None:
            return
        backend = stage.build()
        try:
            backend.setup()
            for text in getattr(backend, "notes", ()):
                self._note(f"{stage.name}: {text}")
            run = self._in_lanes if getattr(backend, "lanes", 0) else self._in_batches
            run(stage, chain([first], rest), backend, sink)
        finally:
            if hasattr(backend, "close"):
                backend.close()

    def _in_lanes(self, stage: Stage, tasks: Iterable[Task], backend: Any, sink: Sink) -> None:
        def work(task: Task) -> Any:
            return stage.step([task], backend, 1)

        lost: list[RpoError] = []
        in_a_row = 0
        for task, outputs in in_lanes(work, tasks, backend.lanes):
            if isinstance(outputs, RpoError):
                lost.append(outputs)
                in_a_row += 1
                if in_a_row >= backend.lanes:  # nobody got an answer: there is no server any more
                    break
            else:
                in_a_row = 0
                _write(stage, [task], outputs, 1, sink)
        if lost:
            rows = "1 row is" if len(lost) == 1 else f"{len(lost)} rows are"
            raise RpoError(f"{stage.name}: {rows} still missing: {lost[0].message}", lost[0].hint)

    def _in_batches(self, stage: Stage, tasks: Iterable[Task], backend: Any, sink: Sink) -> None:
        size = stage.batch_size
        pending: Future[None] | None = None
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rpo-writer") as writer:
            for bucket in _buckets(stage, tasks):
                for batch, outputs, used in self._halving(stage, bucket, backend, size):
                    size = used
                    if pending is not None:
                        pending.result()
                    pending = writer.submit(_write, stage, batch, outputs, used, sink)
            if pending is not None:
                pending.result()

    def _halving(
        self, stage: Stage, tasks: list[Task], backend: Any, size: int
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
                self._note(f"{stage.name}: out of memory, going on with batch size {size}")
                continue
            yield batch, outputs, size
            done += len(batch)


def _write(stage: Stage, tasks: list[Task], outputs: list[Any], size: int, sink: Sink) -> None:
    sink(stage.finish(tasks, outputs, size))


def _buckets(stage: Stage, tasks: Iterable[Task]) -> Iterator[list[Task]]:
    """Full batches as soon as a bucket has one; what is left of each bucket at the end."""
    buckets: dict[Any, list[Task]] = {}
    for task in tasks:
        bucket = buckets.setdefault(stage.bucket(task), [])
        bucket.append(task)
        if len(bucket) == stage.batch_size:
            yield list(bucket)
            bucket.clear()
    yield from (bucket for bucket in buckets.values() if bucket)

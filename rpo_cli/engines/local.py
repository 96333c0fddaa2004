"""The local engine: one model in this process; rows are encoded and written beside the next batch."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from rpo_cli.compute import is_out_of_memory
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Results, Stage, Task

Sink = Callable[[Results], None]
Note = Callable[[str], None]


class LocalEngine:
    """Runs a stage batch by batch in this process.

    A batch that does not fit in memory is halved, and the rest of the stage goes on at that size; the
    rows say which size made them.
    """

    def __init__(self, note: Note) -> None:
        self._note = note

    def run(self, stage: Stage, tasks: Iterable[Task], sink: Sink) -> None:
        backend: Any = None
        size = stage.batch_size
        pending: Future[None] | None = None
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="rpo-writer") as writer:
            for bucket in _buckets(stage, tasks):
                if backend is None:
                    backend = stage.build()
                    backend.setup()
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

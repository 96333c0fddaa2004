"""Tasks of a backend whose rows are independent of each other (a server): many in flight, no batches."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rpo_cli.errors import RpoError

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

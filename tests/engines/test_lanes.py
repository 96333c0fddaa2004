"""Rows that are independent of each other: many in flight, each kept as it comes, the lost ones named."""

import threading
import time
from itertools import count

import pytest

from rpo_cli.engines.loop import AHEAD, in_lanes, run_here
from rpo_cli.errors import RpoError, Terminated
from rpo_cli.protocols import Stage, Task


def test_every_item_comes_back_once_with_its_result():
    found = dict(in_lanes(lambda n: n * n, range(100), 7))
    assert found == {n: n * n for n in range(100)}


def test_no_more_than_the_lanes_are_at_work():
    now, most, guard = [0], [0], threading.Lock()

    def work(item):
        with guard:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with guard:
            now[0] -= 1

    list(in_lanes(work, range(30), 3))
    assert 1 < most[0] <= 3


def test_tasks_are_taken_only_a_little_ahead():
    """A source of pictures is read as it is used, not as a whole."""
    taken = count()
    results = in_lanes(lambda n: n, (next(taken) for _ in range(1000)), 2)
    next(results)
    assert next(taken) <= 2 * AHEAD
    results.close()


def test_an_error_for_the_user_is_a_result_and_any_other_is_raised():
    lost = RpoError("gone", "later")

    def work(item):
        if item == 3:
            raise lost
        return item

    assert dict(in_lanes(work, range(5), 2))[3] is lost
    with pytest.raises(ZeroDivisionError):
        list(in_lanes(lambda n: 1 // n, [0], 2))


class Backend:
    """Loses what it is told to; remembers what was done with it."""

    def __init__(self, lost=(), lanes=2, notes=()):
        self.lost, self.lanes, self.notes, self.closed = lost, lanes, notes, 0

    def setup(self): ...

    def close(self):
        self.closed += 1


def run(backend, rows=12, sink=None):
    kept, told = [], []

    def step(tasks, made, batch_size):
        (task,) = tasks
        if task.payload in made.lost:
            raise RpoError(f"row {task.payload}: no answer", "start the server again")
        return [(task.key, batch_size)]

    stage = Stage("critique", "critiques", 8, lambda: backend, step)
    tasks = (Task(str(n), "", n) for n in range(rows))
    try:
        run_here(stage, tasks, lambda _, results: (sink or kept.extend)(results), told.append)
    except RpoError as error:
        told.append(error.message)
    return kept, told


def test_rows_that_are_lost_leave_the_others_and_the_command_fails_at_the_end():
    backend = Backend(lost={3, 7})
    kept, told = run(backend)
    assert sorted(int(key) for key, _ in kept) == [n for n in range(12) if n not in backend.lost]
    assert {size for _, size in kept} == {1}
    assert told[0].startswith("critique: 2 rows are still missing: row ")
    assert backend.closed == 1


def test_when_nobody_gets_an_answer_the_stage_stops():
    backend = Backend(lost=range(1000))
    kept, told = run(backend, rows=1000)
    assert kept == []
    assert told[0].startswith("critique: 2 rows are still missing: row ")


def test_a_backends_notes_are_told_and_it_is_closed_also_after_an_interrupt():
    def interrupted(results):
        raise Terminated

    backend = Backend(notes=["the schema is ignored"])
    with pytest.raises(Terminated):
        run(backend, sink=interrupted)
    assert backend.closed == 1
    assert run(Backend(notes=["the schema is ignored"]))[1] == ["critique: the schema is ignored"]


def test_without_tasks_no_backend_is_built():
    stage = Stage("critique", "critiques", 8, lambda: pytest.fail("built"), lambda *parts: [])
    run_here(stage, iter(()), print, print)

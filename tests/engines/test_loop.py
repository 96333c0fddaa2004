"""A stage in one process: batches of one bucket, halved when memory runs out, encoded beside the model."""

import pytest

from rpo_cli.engines.loop import buckets, run_here
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Stage, Task


class Backend:
    """Has memory for `fits` rows; remembers the sizes that it was asked for."""

    def __init__(self, fits=100):
        self.fits, self.asked, self.closed = fits, [], 0

    def setup(self): ...

    def close(self):
        self.closed += 1


def step(tasks, backend, size):
    backend.asked.append((len(tasks), size))
    if size > backend.fits:
        raise MemoryError
    return [(task.key, size) for task in tasks]


def tasks(count):
    """Keys "0", "1", ...; every third is of another bucket."""
    return [Task(str(n), "", n % 3 == 2) for n in range(count)]


def run(backend, count, batch_size=4, step=step):
    rows, told = [], []
    stage = Stage("edit", "edits", batch_size, lambda: backend, step, bucket=lambda task: task.payload)
    run_here(stage, tasks(count), lambda _, results: rows.extend(results), told.append)
    return rows, told


def test_batches_are_full_and_of_one_bucket_and_the_rest_of_each_comes_last():
    stage = Stage("edit", "edits", 3, Backend, step, bucket=lambda task: task.payload)
    found = [[task.key for task in batch] for batch in buckets(stage, tasks(8))]
    assert found == [["0", "1", "3"], ["4", "6", "7"], ["2", "5"]]


def test_a_size_that_was_halved_is_kept_for_the_rest_of_the_stage_and_stands_in_its_rows():
    backend = Backend(fits=2)
    rows, told = run(backend, 10)
    assert backend.asked == [(4, 4), (2, 2), (2, 2), (2, 2), (1, 2), (2, 2), (1, 2)]
    assert sorted(rows) == [(str(n), 2) for n in range(10)]
    assert told == ["edit: out of memory, going on with batch size 2"]
    assert backend.closed == 1


def test_out_of_memory_at_one_row_ends_the_stage_with_a_hint_and_closes_the_backend():
    backend = Backend(fits=0)
    with pytest.raises(RpoError, match="edit: out of memory at batch size 1") as caught:
        run(backend, 4)
    assert "larger device" in caught.value.hint
    assert backend.closed == 1


def test_an_error_that_is_none_of_memory_is_raised_after_what_was_made_is_kept():
    made = []

    def fails(tasks, backend, size):
        if made:
            raise RuntimeError("a bug")
        made.extend(tasks)
        return [task.key for task in tasks]

    backend, rows = Backend(), []
    stage = Stage("edit", "edits", 1, lambda: backend, fails)
    with pytest.raises(RuntimeError, match="a bug"):
        run_here(stage, tasks(3), lambda _, results: rows.extend(results), print)
    assert rows == ["0"]
    assert backend.closed == 1

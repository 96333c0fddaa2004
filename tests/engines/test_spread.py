"""Who gets which batch, told event by event: a pool whose workers do what a script says."""

import pytest

from rpo_cli.config import RunSettings
from rpo_cli.engines.loop import Hello, Lost, Made, Note
from rpo_cli.engines.workers import spread
from rpo_cli.errors import RpoError
from rpo_cli.version import __version__
from tests.engines import stages


class Scripted:
    """A pool of two; its next event is the next word: hello, half or all of a batch, lost, note."""

    def __init__(self, *script):
        self.count = 2
        self._script = iter(script)
        self.inbox = {0: [], 1: []}
        self.begun, self.ended, self.closed = [], [], False

    def begin(self, worker, stage):
        self.begun.append(worker)

    def put(self, worker, batch):
        assert worker in self.begun, "a batch before its stage"
        if batch is None:
            self.ended.append(worker)
        else:
            self.inbox[worker] += batch

    def event(self):
        worker, what = next(self._script)
        if what in ("all", "half"):
            keys = tuple(task.key for task in self.inbox[worker][: 4 if what == "all" else 2])
            del self.inbox[worker][: len(keys)]
            return worker, Made(keys, list(keys))
        events = {
            "other": Hello("cpu", "{}", "0.0.1"),
            "hello": Hello("cpu", "{}"),
            "lost": Lost("Killed"),
            "note": Note("halved"),
        }
        return worker, events[what]

    def close(self):
        self.closed = True


def walk(pool, count, tmp_path):
    rows, notes = [], []
    spread(
        stages.make(tmp_path), stages.tasks(count), rows.extend, notes.append, RunSettings(), lambda: pool
    )
    assert pool.closed
    assert sorted(rows) == [f"{n:03}" for n in range(count)], "each row once"
    return notes


def test_a_worker_for_which_nothing_is_left_loads_no_model(tmp_path):
    pool = Scripted((0, "hello"), (1, "hello"), (0, "all"))
    assert walk(pool, 4, tmp_path) == []
    assert (pool.begun, pool.ended) == ([0], [0])


def test_an_idle_worker_takes_over_what_a_lost_one_had(tmp_path):
    pool = Scripted((0, "hello"), (1, "hello"), (0, "half"), (0, "lost"), (1, "all"), (1, "all"))
    assert walk(pool, 8, tmp_path) == ["edit: a worker was lost (Killed); the others make its 6 rows"]
    assert (pool.begun, pool.ended) == ([0, 1], [1])


@pytest.mark.parametrize("before", [[], [(0, "hello")]], ids=["before hello", "while it is idle"])
def test_a_worker_lost_without_rows_is_missed_by_nobody(tmp_path, before):
    pool = Scripted((1, "hello"), *before, (0, "lost"), (1, "all"))
    assert walk(pool, 3, tmp_path) == ["edit: a worker was lost (Killed); the others go on"]


def test_what_was_lost_before_another_is_there_waits_for_it(tmp_path):
    pool = Scripted((0, "hello"), (0, "all"), (0, "lost"), (1, "hello"), (1, "all"))
    assert walk(pool, 5, tmp_path) == ["edit: a worker was lost (Killed); the others make its 1 row"]


def test_a_worker_of_another_version_is_refused_before_it_gets_a_batch(tmp_path):
    pool = Scripted((0, "hello"), (1, "other"))
    with pytest.raises(RpoError, match=f"worker 1 runs rpo 0.0.1, this is {__version__}") as caught:
        walk(pool, 20, tmp_path)
    assert caught.value.hint == "install one version everywhere"
    assert (pool.inbox[1], pool.closed) == ([], True)


def test_two_lost_one_after_the_other_end_the_command_and_the_pool(tmp_path):
    pool = Scripted((0, "hello"), (1, "hello"), (0, "lost"), (1, "lost"))
    with pytest.raises(RpoError, match="every worker was lost; the last: Killed"):
        walk(pool, 20, tmp_path)
    assert pool.closed


def test_a_sentence_of_two_workers_is_told_once(tmp_path):
    pool = Scripted(
        (0, "hello"), (1, "hello"), (0, "note"), (1, "note"), (0, "all"), (1, "all"), (0, "all")
    )
    assert walk(pool, 12, tmp_path) == ["halved"]

"""Several workers of one stage: real processes, killed and refused as they are in life."""

import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import time
import warnings
from functools import partial
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch

from rpo_cli.children import start_of
from rpo_cli.compute import environment
from rpo_cli.config import RunSettings
from rpo_cli.engines import workers
from rpo_cli.engines.workers import Hello, LocalEngine, Processes
from rpo_cli.errors import RpoError, SettingsError, Terminated, UsageError
from rpo_cli.protocols import Task
from rpo_cli.records import canonical_json
from tests.engines import stages

HERE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Workers import what this process would: pytest hides where it found its tests."""
    monkeypatch.syspath_prepend(str(HERE))


def run(folder, tasks, workers=2, lanes=0, sink=None, batch_size=4):
    rows, notes = [], []
    engine = LocalEngine(notes.append, RunSettings(device="cpu", threads=1, workers=workers))
    engine.run(stages.make(folder, lanes, batch_size), tasks, sink or rows.extend)
    return rows, notes


def pids(folder, what):
    return {int(file.name.partition("-")[2]) for file in folder.glob(f"{what}-*")}


# --- in this process ------------------------------------------------------------------------------------


def test_without_tasks_no_worker_is_started_and_no_stage_is_made():
    def pool():
        pytest.fail("a pool was opened")

    workers.spread(lambda *_: pytest.fail("made"), [], print, print, RunSettings(), pool)


def test_rows_that_wait_for_a_server_are_asked_for_by_this_process_alone(tmp_path):
    rows, _ = run(tmp_path, stages.tasks(9), lanes=3)
    assert {row[1] for row in rows} == {os.getpid()}
    assert {row[4] for row in rows} == {canonical_json(environment("cpu"))}
    assert sorted(row[0] for row in rows) == [f"{n:03}" for n in range(9)]
    assert pids(tmp_path, "closed") == {os.getpid()}


@pytest.mark.parametrize(
    "error",
    [
        RpoError("what", "now"),
        SettingsError("rpo.toml", ["a", "b"], "mend both"),
        *(kind("what", "now") for kind in RpoError.__subclasses__() if kind is not SettingsError),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_travels_whole(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.hint, again.exit_code) == (str(error), error.hint, error.exit_code)
    assert getattr(again, "problems", None) == getattr(error, "problems", None)


def test_visible_gpus_are_named_as_their_user_named_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert workers.visible_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, GPU-8f,7")
    assert workers.visible_gpus() == ["5", "GPU-8f"]


def test_every_slice_of_a_gpu_that_is_named_gets_a_worker_though_a_process_sees_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1c,MIG-2d")
    assert workers.visible_gpus() == ["MIG-1c", "MIG-2d"]


# --- in processes of their own --------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_make_every_row_once_and_both_take_part(tmp_path):
    rows, notes = run(tmp_path, stages.tasks(60))
    assert sorted(row[0] for row in rows) == [f"{n:03}" for n in range(60)]
    assert len({row[1] for row in rows}) == 2
    assert os.getpid() not in pids(tmp_path, "up")
    assert notes == []
    assert {json.loads(row[4])["threads"] for row in rows} == {"1"}
    assert pids(tmp_path, "closed") == pids(tmp_path, "up"), "a backend is closed where it was set up"


@pytest.mark.slow
def test_each_worker_sees_the_gpu_that_it_was_given(tmp_path):
    rows = []
    pool = partial(Processes, "cpu", 1, ["3", "GPU-8f"])
    workers.spread(stages.make(tmp_path), stages.tasks(40), rows.extend, print, RunSettings(), pool)
    assert {row[3] for row in rows} == {"3", "GPU-8f"}


@pytest.mark.slow
def test_what_a_killed_worker_had_is_made_by_the_others(tmp_path):
    rows, notes = run(tmp_path, stages.tasks(30, "kill once", at=(9,)))
    assert sorted(row[0] for row in rows) == [f"{n:03}" for n in range(30)]
    (note,) = notes
    assert note.startswith("edit: a worker was lost (Killed); the others make its ")


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_message_is_lost_like_another(tmp_path):
    rows, notes = run(tmp_path, stages.tasks(30, "die speaking", at=(9,)))
    assert sorted(row[0] for row in rows) == [f"{n:03}" for n in range(30)]
    assert [note.partition(";")[0] for note in notes] == ["edit: a worker was lost (Killed)"]


@pytest.mark.slow
def test_a_batch_that_a_worker_cannot_read_ends_the_command(tmp_path):
    with pytest.raises(ValueError, match="invalid literal"):
        run(tmp_path, [*stages.tasks(12), Task("unreadable", "", stages.Unreadable())])


@pytest.mark.slow
@pytest.mark.parametrize("hushed", [True, False])
def test_workers_warn_only_where_their_command_does(tmp_path, capfd, hushed):
    with warnings.catch_warnings():
        if hushed:
            warnings.simplefilter("ignore")
        run(tmp_path, stages.tasks(8, "warn"))
    assert ("old ways" in capfd.readouterr().err) is not hushed


@pytest.mark.slow
def test_when_every_worker_is_lost_the_command_says_so_and_keeps_what_was_made(tmp_path):
    rows = []
    with pytest.raises(RpoError, match="every worker was lost; the last: Killed") as caught:
        run(tmp_path, stages.tasks(30, "kill", at=(20,)), sink=rows.extend)
    assert "fewer run.workers" in caught.value.hint
    kept = {row[0] for row in rows}
    assert kept
    assert "020" not in kept


@pytest.mark.slow
def test_a_batch_too_large_is_halved_by_its_worker_and_told_once(tmp_path):
    rows, notes = run(tmp_path, stages.tasks(24, "memory"))
    assert {row[2] for row in rows} == {2}
    assert len(rows) == 24
    assert notes == ["edit: out of memory, going on with batch size 2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "kind", "told"),
    [("refuse", UsageError, "no such thing"), ("bug", ZeroDivisionError, "of ours")],
)
def test_an_error_of_a_worker_is_raised_here_with_its_traceback(tmp_path, what, kind, told):
    with pytest.raises(kind, match=told) as caught:
        run(tmp_path, stages.tasks(8, what, at=(2,)))
    assert "stages.py" in "".join(caught.value.__notes__)
    assert getattr(caught.value, "hint", "ask for another") == "ask for another"


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_and_closes_their_backends(tmp_path):
    def interrupted(results):
        raise Terminated

    with pytest.raises(Terminated):
        run(tmp_path, stages.tasks(400), sink=interrupted)
    assert pids(tmp_path, "up")
    assert pids(tmp_path, "closed") == pids(tmp_path, "up")


VICTIM = """
import sys
sys.path[:0] = [sys.argv[2]]
from rpo_cli.config import RunSettings
from rpo_cli.engines.workers import LocalEngine
from tests.engines import stages
engine = LocalEngine(print, RunSettings(device="cpu", threads=1, workers=2))
engine.run(stages.make(sys.argv[1]), stages.tasks(100, "very slow"), print)
"""


@pytest.mark.slow
def test_after_kill_9_of_the_engine_no_worker_is_left(tmp_path):
    engine = subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path), str(HERE)])
    until = time.monotonic() + 120
    while len(pids(tmp_path, "up")) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    workers = pids(tmp_path, "up")
    assert len(workers) == 2
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    while any(map(start_of, workers)) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(map(start_of, workers))


@pytest.fixture
def worker(tmp_path):
    """(the engine's end of its pipe, a worker that has set its backend up)."""
    ours, theirs = Pipe()
    with theirs:
        started = workers._begun(theirs.fileno(), "").process
    ours.send(("cpu", 1))
    assert isinstance(ours.recv(), Hello)
    ours.send(stages.make(tmp_path)("cpu", ""))
    ours.send(stages.tasks(4, "very slow"))
    until = time.monotonic() + 120
    while not pids(tmp_path, "up") and time.monotonic() < until:
        time.sleep(0.05)
    yield ours, started
    ours.close()
    started.kill()
    started.wait()


@pytest.mark.slow
def test_a_worker_ends_when_its_engine_is_killed_in_the_middle_of_a_message(worker, tmp_path):
    line, started = worker
    os.write(line.fileno(), struct.pack("!i", 10**6) + b"the first words")
    line.close()
    assert started.wait(60) == Terminated.exit_code
    assert pids(tmp_path, "closed") == {started.pid}


@pytest.mark.slow
def test_a_second_sigterm_does_not_stop_the_closing_of_a_backend(worker, tmp_path):
    _, started = worker
    started.terminate()
    until = time.monotonic() + 60
    while not pids(tmp_path, "closing") and time.monotonic() < until:
        time.sleep(0.01)
    started.terminate()
    assert started.wait(60) == Terminated.exit_code
    assert pids(tmp_path, "closed") == {started.pid}

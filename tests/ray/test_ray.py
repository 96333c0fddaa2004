"""The Ray engine on real Ray: one it starts itself, and a cluster that was there before (make test-ray)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rpo_cli.backends.processes import _started
from rpo_cli.config import RunSettings
from rpo_cli.errors import RpoError, UsageError
from tests.engines import stages

pytestmark = pytest.mark.ray
HERE = Path(__file__).parents[2]
RPO = "import sys; from rpo_cli.cli.app import call; sys.exit(call(sys.argv[1:]))"


@pytest.fixture(scope="module")
def engine():
    """Ray on this machine, started by the engine, for all tests of this file."""
    import ray

    from rpo_cli.engines.ray import RayEngine

    sys.path.insert(0, str(HERE))  # actors import what this process would
    yield lambda notes, workers=2: RayEngine(
        notes.append, RunSettings(device="cpu", threads=1, workers=workers)
    )
    ray.shutdown()
    sys.path.remove(str(HERE))


def run(engine, folder, tasks, sink=None):
    rows, notes = [], []
    engine(notes).run(stages.make(folder), tasks, sink or rows.extend)
    return rows, notes


def test_two_actors_make_every_row_once_and_both_take_part(engine, tmp_path):
    rows, notes = run(engine, tmp_path, stages.tasks(60))
    assert sorted(row[0] for row in rows) == [f"{n:03}" for n in range(60)]
    assert len({row[1] for row in rows} - {os.getpid()}) == 2
    assert [note for note in notes if "RAY_ADDRESS" not in note] == []


def test_what_a_killed_actor_had_is_made_by_the_others(engine, tmp_path):
    rows, notes = run(engine, tmp_path, stages.tasks(30, "kill once", at=(9,)))
    assert sorted(row[0] for row in rows) == [f"{n:03}" for n in range(30)]
    assert any(note.startswith("edit: a worker was lost (") for note in notes)


def test_when_every_actor_is_lost_the_command_says_so(engine, tmp_path):
    with pytest.raises(RpoError, match="every worker was lost"):
        run(engine, tmp_path, stages.tasks(30, "kill", at=(20,)))


@pytest.mark.parametrize(("what", "kind"), [("refuse", UsageError), ("bug", ZeroDivisionError)])
def test_an_error_of_an_actor_is_raised_here_with_its_traceback(engine, tmp_path, what, kind):
    with pytest.raises(kind) as caught:
        run(engine, tmp_path, stages.tasks(8, what, at=(2,)))
    assert "stages.py" in "".join(caught.value.__notes__)


# --- the command ----------------------------------------------------------------------------------------


def rpo(*words, **environment):
    """`rpo` as typed, on 3 prompts with few steps."""
    small = ["prompts.limit=3", "generate.steps=2", "run.threads=1", "train.steps=2", "train.save_every=1"]
    assigned = [word for one in small for word in ("--set", one)]
    return subprocess.run(
        [sys.executable, "-c", RPO, *map(str, words), "--preset", "shapes", *assigned],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def rows_of(run):
    """Table → rows without what a clock or an order decides."""
    return {
        table: sorted(
            json.dumps(row, sort_keys=True, default=repr)
            for part in (run / table).rglob("*.parquet")
            for row in pq.read_table(part).to_pylist()
        )
        for table in ("images", "critiques", "edits", "rewards", "rejects")
    }


def test_the_line_on_ray_makes_the_rows_of_the_line_here(tmp_path):
    here = rpo("run", tmp_path / "here", "--until", "build-pairs")
    ray = rpo("run", tmp_path / "ray", "--until", "build-pairs", "--engine", "ray")
    assert (here.returncode, ray.returncode) == (0, 0), here.stderr + ray.stderr
    assert rows_of(tmp_path / "ray") == rows_of(tmp_path / "here")
    assert "Ray was started on this machine alone" in ray.stderr


def test_a_cluster_that_does_not_answer_is_told_at_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = rpo("generate", tmp_path / "run", "--set", "run.engine=ray", RAY_ADDRESS=address)
    assert done.returncode == 1
    assert f"error: RAY_ADDRESS={address}: Connection refused" in done.stderr
    assert "hint: " in done.stderr


def test_the_line_runs_on_a_cluster_that_is_there_and_leaves_it_up(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
    environment = os.environ | {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    subprocess.run([*ray, "start", *head, "--num-cpus=2"], check=True, env=environment, capture_output=True)
    try:
        address = f"127.0.0.1:{port}"
        done = rpo("generate", tmp_path / "run", "--set", "run.engine=ray", RAY_ADDRESS=address)
        assert done.returncode == 0, done.stderr
        assert len(rows_of(tmp_path / "run")["images"]) == 6
        assert "alone" not in done.stderr
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    finally:
        subprocess.run([*ray, "stop", "--force"], check=True, capture_output=True)


VICTIM = """
import sys
sys.path[:0] = [sys.argv[2]]
from rpo_cli.config import RunSettings
from rpo_cli.engines.ray import RayEngine
from tests.engines import stages
engine = RayEngine(print, RunSettings(device="cpu", threads=1, workers=1))
engine.run(stages.make(sys.argv[1]), stages.tasks(100, "very slow"), print)
"""


def test_after_kill_9_of_the_engine_no_actor_is_left(tmp_path):
    engine = subprocess.Popen([sys.executable, "-c", VICTIM, str(tmp_path), str(HERE)])
    until = time.monotonic() + 180
    while not (up := list(tmp_path.glob("up-*"))) and time.monotonic() < until:
        time.sleep(0.1)
    actor = int(up[0].name.partition("-")[2])
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    while _started(actor) and time.monotonic() < until:
        time.sleep(0.1)
    assert _started(actor) == 0

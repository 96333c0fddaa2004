"""The Ray engine on real Ray: one it starts itself, and a cluster that was there before (make test-ray)."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rpo_cli.children import start_of
from rpo_cli.config import RunSettings
from rpo_cli.errors import RpoError, UsageError
from tests.engines import stages

pytestmark = pytest.mark.ray
HERE = Path(__file__).parents[2]
RPO = "import sys; sys.path.remove(''); from rpo_cli.cli.app import call; sys.exit(call(sys.argv[1:]))"


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


def listening(pids):
    """Addresses, in hex as the kernel has them, at which any of these processes takes connections."""
    held = set()
    for number in (number for pid in pids for number in there(f"/proc/{pid}/fd")):
        with suppress(OSError):
            held.add(os.readlink(number))
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()]
    up = [words for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in held]
    return {words[1].partition(":")[0] for words in up}


def family(pid):
    """A process and all that it started."""
    children = []
    for task in there(f"/proc/{pid}/task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has ended meanwhile
            children += (task / "children").read_text().split()
    return [pid, *(one for child in children for one in family(child))]


def there(folder):
    """What lies in a folder of /proc; nothing when its process has ended."""
    try:
        return list(Path(folder).iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return []


def test_ray_of_this_machine_alone_listens_on_loopback_only(engine, tmp_path):
    run(engine, tmp_path, stages.tasks(4))
    found = listening(family(os.getpid()))
    assert found
    assert found <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_a_node_without_cores_does_not_count_as_one_of_one(engine):
    from rpo_cli.engines.ray import least_cores

    head, gone = {"Alive": True, "Resources": {}}, {"Alive": False, "Resources": {"CPU": 2}}
    nodes = [{"Alive": True, "Resources": {"CPU": cores}} for cores in (64, 32)]
    assert least_cores([head, gone, *nodes]) == 32
    assert least_cores([head]) == 1


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


def test_the_line_on_ray_makes_the_rows_of_the_line_here(tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    for name in ("torch", "diffusers"):  # nothing of the current folder is imported, also by an actor
        (tmp_path / "cwd" / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    monkeypatch.chdir(tmp_path / "cwd")
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
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block"]
    head = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
    environment = os.environ | {"RAY_worker_niceness": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    with (tmp_path / "log").open("wb") as log:
        cluster = subprocess.Popen(
            [*ray, *head, "--num-cpus=2"], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        address = f"127.0.0.1:{port}"
        _until_up(port)
        done = rpo("generate", tmp_path / "run", "--set", "run.engine=ray", RAY_ADDRESS=address)
        assert done.returncode == 0, done.stderr
        assert len(rows_of(tmp_path / "run")["images"]) == 6
        assert "alone" not in done.stderr
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
    finally:  # not `ray stop`: that ends every Ray of this machine
        os.killpg(cluster.pid, signal.SIGTERM)
        cluster.wait()


def _until_up(port):
    until = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
            return
        except OSError:
            assert time.monotonic() < until, "no head"
            time.sleep(0.1)


def test_sigterm_commits_what_is_whole_and_ends_as_without_ray(tmp_path):
    words = ["generate", tmp_path / "run", "--preset", "shapes", "--set", "run.engine=ray"]
    small = ["--set", "generate.batch_size=1", "--set", "run.rows_per_part=1", "--set", "prompts.limit=90"]
    command = [
        sys.executable,
        "-c",
        "from rpo_cli.cli.app import main; main()",
        *map(str, [*words, *small]),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 180
    while not list((tmp_path / "run" / "images").rglob("part-*")) and time.monotonic() < until:
        time.sleep(0.1)
    process.terminate()
    said = process.communicate(timeout=120)[1]
    assert process.returncode == 143, said
    assert "error: terminated; what was whole is committed" in said
    assert "SIGTERM received" not in said, "Ray's dump of its stack"


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
    while start_of(actor) and time.monotonic() < until:
        time.sleep(0.1)
    assert start_of(actor) == 0

"""One process per run and stage: real processes, refused with the holder's name, freed by kill -9."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest

from rpo_cli.errors import RunLocked
from rpo_cli.files import stage_lock

HOLD = """
import sys, time
from pathlib import Path
from rpo_cli.files import stage_lock
shard = tuple(map(int, sys.argv[3:5])) or None
with stage_lock(Path(sys.argv[1]), sys.argv[2], shard):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(folder, stage, *shard):
    """Another process that holds a lock."""
    command = [sys.executable, "-c", HOLD, str(folder), stage, *map(str, shard)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def is_free(folder, stage, shard=None) -> bool:
    try:
        with stage_lock(folder, stage, shard):
            return True
    except RunLocked:
        return False


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path):
    with (
        holder(tmp_path, "generate") as other,
        pytest.raises(RunLocked) as caught,
        stage_lock(tmp_path, "generate", None),
    ):
        pass

    assert f"another rpo (process {other.pid}) is working on generate" in caught.value.message
    assert caught.value.exit_code == 1
    assert "--shard" in caught.value.hint


def test_a_run_that_a_lock_makes_keeps_its_name_in_a_power_cut(tmp_path, monkeypatch):
    synced, fsync = set(), os.fsync

    def sync(handle):
        synced.add(os.fstat(handle).st_ino)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", sync)
    with stage_lock(tmp_path / "run" / "logs", "generate", None):
        assert {tmp_path.stat().st_ino, (tmp_path / "run").stat().st_ino} <= synced


def test_a_lock_is_gone_with_its_process(tmp_path):
    with holder(tmp_path, "generate") as other:
        assert not is_free(tmp_path, "generate")
        os.kill(other.pid, signal.SIGKILL)
        other.wait()
        assert is_free(tmp_path, "generate")


def test_a_lock_is_gone_after_its_block_also_by_an_error(tmp_path):
    free_inside = []

    def fail():
        with stage_lock(tmp_path, "edit", None):
            free_inside.append(is_free(tmp_path, "edit"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert free_inside == [False]
    assert is_free(tmp_path, "edit")


def test_other_stages_and_other_runs_are_free(tmp_path):
    with holder(tmp_path / "a", "generate"):
        assert is_free(tmp_path / "a", "critique")
        assert is_free(tmp_path / "b", "generate")


def test_shards_run_beside_each_other_but_each_once(tmp_path):
    with holder(tmp_path, "generate", 0, 2), holder(tmp_path, "generate", 1, 2):
        assert not is_free(tmp_path, "generate", (0, 2))
        assert not is_free(tmp_path, "generate", (1, 2))
        assert is_free(tmp_path, "generate", (2, 3))


def test_shards_and_the_whole_stage_shut_each_other_out(tmp_path):
    with holder(tmp_path, "generate", 0, 2):
        assert not is_free(tmp_path, "generate")
    with holder(tmp_path, "generate"):
        assert not is_free(tmp_path, "generate", (0, 2))
    assert is_free(tmp_path, "generate")


def test_a_shard_that_has_ended_is_not_named_as_the_holder(tmp_path):
    """The whole stage is refused for the first shard, though the second wrote its number last."""
    with ExitStack() as alive:
        alive.enter_context(holder(tmp_path, "generate", 0, 2))
        with holder(tmp_path, "generate", 1, 2) as second:
            pass
        with pytest.raises(RunLocked) as caught, stage_lock(tmp_path, "generate", None):
            pass

    assert str(second.pid) not in caught.value.message
    assert caught.value.message == "another rpo is working on generate of this run"


def test_a_refused_process_leaves_the_holders_name_in_place(tmp_path):
    with holder(tmp_path, "generate") as other:
        for _ in range(2):
            with pytest.raises(RunLocked, match=str(other.pid)), stage_lock(tmp_path, "generate", None):
                pass

"""Several processes make one training: the same numbers, the same bytes after any kill, no silent loss."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rpo_cli.compute import Launch, launched, pick_device
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Silent
from rpo_cli.train import processes as processes_module
from rpo_cli.train import step as step_module
from rpo_cli.train.composition import TrainInputs
from rpo_cli.train.processes import ALONE, World, loopback
from rpo_cli.train.run import train

SHAPES = Path(step_module.__file__).parent.parent / "shapes" / "models"
LORA = "adapter/pytorch_lora_weights.safetensors"
SETTINGS = {"steps": 4, "global_batch": 8, "batch_size": 3, "rank": 4, "warmup_steps": 0, "flip": True}
SETTINGS |= {
    "learning_rate": 1e-3,
    "caption_dropout": 0.2,
    "save_every": 1,
    "validation_draws": 8,
    "validate_every": 2,
}
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
BOUND = 60.0  # seconds in which a process ends after another was killed


def test_shares_are_consecutive_whole_and_even():
    shares = World(0, 3).shares(10)
    assert [list(part) for part in shares] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert World(1, 3).share(10) == range(3, 6)
    assert ALONE.shares(5) == [range(5)]


def test_a_launcher_is_read_from_its_environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == Launch(0, 1, 0)
    monkeypatch.setenv("WORLD_SIZE", "4")  # alone it says nothing
    assert launched() == Launch(0, 1, 0)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert launched() == Launch(3, 4, 1)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(UsageError, match="4, 4, 1"):
        launched()
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(UsageError, match="no place among processes"):
        launched()


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("cuda", Launch(5, 8, 1)) == "cuda:1"
    assert pick_device("auto", Launch(5, 8, 1)) == "cuda:1"
    assert pick_device("cuda:3", Launch(5, 8, 1)) == "cuda:3"
    assert pick_device("cuda") == "cuda"
    assert pick_device("cpu", Launch(5, 8, 1)) == "cpu"


def test_processes_without_work_are_refused_before_one_starts(run_train):
    with pytest.raises(UsageError, match="5 processes share the 4 pairs of a step"):
        run_train(processes=5)


def test_processes_within_a_launcher_are_refused(run_train, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="already one of 2 processes"):
        run_train(processes=2)


# --- real processes -----------------------------------------------------------------------------------


@pytest.fixture
def job(model, rich_dataset, shared_cache):
    """What every process is asked for, but the settings and the folder."""
    return {
        "dataset": str(rich_dataset),
        "model": str(model),
        "revision": None,
        "model_identity": str(model),
        "seed": 0,
        "device": "cpu",
        "threads": 1,
        "cache": str(shared_cache),
        "embedder": {"model": str(SHAPES / "reward"), "revision": None, "identity": "shapes-reward"},
    }


def finished(victim, job: dict, ranks: int) -> list[int]:
    """Run to the end; exit codes."""
    victim.start(job | {"ranks": ranks})
    for _ in range(ranks - 1):
        victim.read()
    return [victim.wait() for _ in range(ranks)]


def rows(out: Path) -> list[dict]:
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "pairs_per_second"} for row in found]


CASES = [
    ("dpo", {}, 2),
    ("dpo", {"global_batch": 7, "ema": 0.5}, 3),  # shares of 2, 2 and 3 pairs
    ("kto", {"group_size": 8}, 2),  # one group, spread over both
    ("relative", {"group_size": 4}, 2),  # one group each
    ("ir-dro", {"group_size": 8}, 2),
    ("dspo", {"full": True}, 2),
    ("dpo", {"text_encoder": True}, 2),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "changed", "ranks"), CASES)
def test_several_processes_train_what_one_does(victim, job, tmp_path, method, changed, ranks):
    settings = SETTINGS | {"steps": 2, "method": method} | changed
    for count in (1, ranks):
        told = {"out": str(tmp_path / str(count)), "gradient": str(tmp_path / f"{count}-")}
        assert finished(victim, job | told | {"settings": settings}, count) == [0] * count
    whole = load_file(tmp_path / "1-0")["gradient"]
    for rank in range(ranks):
        found = load_file(tmp_path / f"{ranks}-{rank}")["gradient"]
        assert (found - whole).norm() <= 1e-5 * whole.norm()
    one, several = (rows(tmp_path / str(count)) for count in (1, ranks))
    assert [row.keys() for row in one] == [row.keys() for row in several]
    for row, other in zip(one, several, strict=True):
        for name in ("loss", "winner_error", "loser_error"):
            near = 1e-5 if row["step"] < 2 else 1e-3  # a β of 5000 multiplies what is said below
            assert other[name] == pytest.approx(row[name], rel=near), name
    name = "unet/diffusion_pytorch_model.safetensors" if settings.get("full") else LORA
    weights, others = (load_file(tmp_path / str(count) / name) for count in (1, ranks))
    for layer, value in weights.items():  # AdamW makes a move of 1e-3 of any slope, also of rounding
        assert (others[layer] - value).norm() <= 1e-3 * value.norm() + 1e-5, layer


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_at_random_end_soon_and_go_on_to_the_same_bytes(
    victim, job, tmp_path
):
    settings = SETTINGS | {"steps": 12, "method": "kto", "group_size": 8}
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert finished(victim, job | {"settings": settings, "out": str(whole)}, 2) == [0, 0]
    seconds = time.monotonic() - began
    generator, killed, attempt = random.Random(0), 0, 0
    while killed < 2:
        told = job | {"settings": settings, "out": str(tmp_path / f"cut{attempt}"), "ranks": 2}
        pids = [victim.start(told), victim.read()]
        time.sleep(generator.uniform(0, 0.8 * seconds))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[killed % 2], signal.SIGKILL)
        began = time.monotonic()
        codes = [victim.wait(), victim.wait()]
        if -signal.SIGKILL in codes:
            assert sorted(codes)[0] == -signal.SIGKILL
            assert codes[1 - killed % 2] in (0, 1)  # 0: it had no more to say to the other
            assert time.monotonic() - began < BOUND
            killed += 1
        else:
            attempt += 1
    out = tmp_path / f"cut{attempt}"
    assert finished(victim, job | {"settings": settings, "out": str(out)}, 2) == [0, 0]
    assert (out / LORA).read_bytes() == (whole / LORA).read_bytes()
    assert rows(out) == rows(whole)
    assert not list(out.glob("checkpoint-*"))


class KillAt(Silent):
    """An observer that kills a helper at one optimiser step."""

    def __init__(self, step: int, started: list) -> None:
        self._left, self._started, self._training = step, started, False

    def start(self, stage, total, present) -> None:
        self._training = stage == "train"

    def advance(self, rows, rejects) -> None:
        self._left -= self._training
        if self._left == 0:
            os.kill(self._started[0].process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_helper_that_dies_is_named_and_the_same_call_goes_on(victim, job, tmp_path, monkeypatch):
    """`train.processes = 2`: this process starts the other."""
    started = []
    start = processes_module.begin

    def begun(*words, **how):
        started.append(start(*words, **how))
        return started[-1]

    monkeypatch.setattr(processes_module, "begin", begun)
    places = {name: value for name, value in job.items() if name not in ("embedder",)}
    places |= {name: Path(places[name]) for name in ("dataset", "cache")}
    settings = TrainSettings(**SETTINGS, processes=2)

    def call(name: str, observer=None):
        return train(TrainInputs(settings, **places, out=tmp_path / name), observer)

    with pytest.raises(RpoError, match="process 1 of 2 ended: signal 9"):
        call("cut", KillAt(2, started))
    assert call("cut").steps == 4
    whole = {"settings": SETTINGS, "out": str(tmp_path / "whole")}
    assert finished(victim, job | whole, 2) == [0, 0]
    assert (tmp_path / "cut" / LORA).read_bytes() == (tmp_path / "whole" / LORA).read_bytes()
    assert all(helper.process.poll() is not None for helper in started)


@pytest.mark.slow
def test_processes_that_were_told_different_things_do_not_train(victim, job, tmp_path):
    """As when a launcher starts them with two versions of the settings."""
    settings = SETTINGS | {"steps": 2}
    told = job | {"settings": settings, "out": str(tmp_path / "out"), "differ": True}
    assert finished(victim, told, 2) == [1, 1]
    assert not (tmp_path / "out" / "adapter").exists()


@pytest.mark.slow
def test_torchrun_and_processes_make_the_same_training(model, dataset, tmp_path):
    """The launcher that accelerate calls for several GPUs, and the real command; two gloo processes."""
    options = ["--dataset", dataset, "--model", model, "--steps", 2, "--global-batch", 4, "--rank", 4]
    entry = "from rpo_cli.cli.app import main; main()"
    command = [sys.executable, "-c", entry, "train", tmp_path / "run", *options]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--standalone"]
    launcher += ["--local-addr", "127.0.0.1"]  # this machine's name may lead nowhere
    launched = [*launcher, "--no-python", *command, "--name", "launched"]
    own = [*command, "--name", "own", "--processes", 2]
    for whole in (launched, own):
        told = subprocess.run(
            list(map(str, whole)), capture_output=True, text=True, env=ONE_THREAD | loopback()
        )
        assert told.returncode == 0, told.stderr
        assert told.stdout.count("result: ") == 1  # of two processes one speaks
    first, second = (load_file(tmp_path / "run" / "train" / name / LORA) for name in ("launched", "own"))
    assert first.keys() == second.keys()
    assert all(torch.equal(second[name], value) for name, value in first.items())

"""Several processes learn from trajectories as one does: the same pictures, gradient and rewards."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from safetensors.torch import load_file

from rpo_cli.errors import UsageError
from rpo_cli.train.online.rollout import shares_of_batches
from rpo_cli.train.processes import ALONE, World, loopback

LORA = "adapter/pytorch_lora_weights.safetensors"
SETTINGS = {"rounds": 2, "global_batch": 3, "batch_size": 2, "rank": 4, "warmup_steps": 0}
SETTINGS |= {"learning_rate": 1e-3}
SAMPLING = {"steps": 4, "guidance": 2.0, "images_per_prompt": 2, "prompts_per_round": 3}
SAMPLING |= {"baseline_size": 2}
BOUND = 60.0  # seconds in which a process ends after another was killed


@pytest.fixture
def job(model):
    return {
        "online": SAMPLING,
        "prompts": [["p0", "a red thing"], ["p1", "a dog"], ["p2", "a cat"]],
        "model": str(model),
        "revision": None,
        "model_identity": "m",
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    }


def finished(victim, job, ranks):
    """Run to the end; exit codes."""
    victim.start(job | {"ranks": ranks})
    for _ in range(ranks - 1):
        victim.read()
    return [victim.wait() for _ in range(ranks)]


def rows(out):
    """Every round's numbers but the clock's."""
    found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def test_processes_draw_whole_batches():
    """10 pictures in passes of 4: the last pass has two, and no process has half of one."""
    assert shares_of_batches(World(0, 2), 10, 4) == [range(4), range(4, 10)]
    assert shares_of_batches(World(0, 4), 10, 4) == [range(0), range(4), range(4, 8), range(8, 10)]
    assert shares_of_batches(ALONE, 10, 4) == [range(10)]


def test_more_processes_than_a_step_has_pictures_are_refused(run_online, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(UsageError, match="5 processes share the 3 pictures of a step"):
        run_online(global_batch=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "changed", "ranks"),
    [
        ("ddpo", {}, 2),
        ("ddpo", {"global_batch": 4}, 4),  # 3 passes for 4 processes, and a last step of 2 pictures
        ("score-as-action", {}, 2),
        ("ppod-online", {"global_batch": 2}, 2),  # a last step of one pair: a process without items
    ],
)
def test_several_processes_learn_what_one_does(victim, job, tmp_path, method, changed, ranks):
    settings = SETTINGS | {"method": method} | changed
    online = SAMPLING | ({"min_margin": 0.0} if method == "ppod-online" else {})
    for count in (1, ranks):
        told = {"out": str(tmp_path / str(count)), "gradient": str(tmp_path / f"{count}-")}
        assert finished(victim, job | told | {"settings": settings, "online": online}, count) == [0] * count
    whole = load_file(tmp_path / "1-0")["gradient"]
    assert whole.norm() > 0
    for rank in range(ranks):
        found = load_file(tmp_path / f"{ranks}-{rank}")["gradient"]
        assert (found - whole).norm() <= 1e-5 * whole.norm()
    one, several = (rows(tmp_path / str(count)) for count in (1, ranks))
    assert [row.keys() for row in one] == [row.keys() for row in several]
    for name in ("reward_mean", "reward_noise", "images_sampled", "pictures_scored", "grad_norm"):
        near = 1e-6 if name != "grad_norm" else 1e-2  # of three steps, after which all weights moved
        assert several[0][name] == pytest.approx(one[0][name], rel=near), name
    weights, others = (load_file(tmp_path / str(count) / LORA) for count in (1, ranks))
    for layer, value in weights.items():  # AdamW makes a move of 1e-3 of any slope, also of rounding
        assert (others[layer] - value).norm() <= 2e-2 * value.norm() + 1e-5, layer


@pytest.mark.slow
def test_two_processes_of_which_one_is_killed_go_on_to_the_same_bytes(victim, job, tmp_path):
    told = job | {"settings": SETTINGS | {"method": "ddpo", "rounds": 4}}
    whole = tmp_path / "whole"
    began = time.monotonic()
    assert finished(victim, told | {"out": str(whole)}, 2) == [0, 0]
    seconds = time.monotonic() - began
    generator, killed, attempt = random.Random(0), 0, 0
    while killed < 2:
        out = {"out": str(tmp_path / f"cut{attempt}"), "ranks": 2}
        pids = [victim.start(told | out), victim.read()]
        time.sleep(generator.uniform(0.2, 0.8) * seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pids[killed], signal.SIGKILL)
        began = time.monotonic()
        codes = [victim.wait(), victim.wait()]
        if -signal.SIGKILL in codes:
            assert codes[1 - killed] in (0, 1)  # 0: it had no more to say to the other
            assert time.monotonic() - began < BOUND
            killed += 1
        else:
            attempt += 1
    out = tmp_path / f"cut{attempt}"
    assert finished(victim, told | {"out": str(out)}, 2) == [0, 0]
    assert (out / LORA).read_bytes() == (whole / LORA).read_bytes()
    assert rows(out) == rows(whole)
    assert not list(out.glob("checkpoint-*"))


@pytest.mark.slow
def test_processes_that_were_told_different_things_do_not_train(victim, job, tmp_path):
    told = job | {"settings": SETTINGS | {"method": "ddpo"}, "out": str(tmp_path / "out"), "differ": True}
    assert finished(victim, told, 2) == [1, 1]
    assert not (tmp_path / "out" / "adapter").exists()


@pytest.mark.slow
def test_torchrun_and_the_command_itself_start_the_processes_of_one_training(tmp_path):
    """Two processes take one run's prompts and rewards, and one speaks, whoever started them."""
    run = ["train", tmp_path / "run", "--preset", "shapes", "--method", "ddpo", "--rounds", 1]
    sampling = ["prompts_per_round=2", "images_per_prompt=2", "steps=3", "taught_steps=1"]
    sizes = ["prompts.limit=3", "pairs.val_fraction=0", *(f"online.{name}" for name in sampling)]
    options = [
        "--batch-size",
        2,
        "--global-batch",
        4,
        *(part for size in sizes for part in ("--set", size)),
    ]
    command = [sys.executable, "-c", "from rpo_cli.cli.app import main; main()", *run, *options]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--standalone"]
    launcher += ["--local-addr", "127.0.0.1", "--no-python"]  # this machine's name may lead nowhere
    environment = {**os.environ, "OMP_NUM_THREADS": "1"} | loopback()
    told, own, timed = (
        subprocess.run(list(map(str, given)), capture_output=True, text=True, env=environment)
        for given in (
            [*launcher, *command],
            [*command, "--processes", 2, "--name", "own"],
            [*command, "--probe", 1],
        )
    )
    for one in (told, own):
        assert one.returncode == 0, one.stderr
        assert one.stdout.count("result: ") == 1
        assert "4 pictures of its own" in one.stdout
    assert timed.returncode == 0, timed.stderr
    assert "train: 2 pictures" in timed.stdout
    weights, others = (load_file(tmp_path / "run" / "train" / name / LORA) for name in ("default", "own"))
    assert weights.keys() == others.keys()
    assert all(weights[name].equal(others[name]) for name in weights)

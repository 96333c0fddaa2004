"""`rpo train --rounds`: what the door hands to the line, what it prints and what it refuses."""

import json
from pathlib import Path

import pytest

from rpo_cli.line import online, training
from rpo_cli.line.rounds import checks, train
from rpo_cli.line.rounds.checks import RoundPlan
from rpo_cli.line.rounds.measurements import RewardNumbers, RoundNumbers
from rpo_cli.line.rounds.train import RoundsReport
from rpo_cli.train.look_ahead.memory import Memory
from rpo_cli.train.look_ahead.plan import Flops, TrainPlan
from rpo_cli.train.online.look_ahead import DrawFlops, OnlinePlan, OnlineProbe

REWARD = RewardNumbers(21.5, 0.25, 1.5, "seeds of one prompt")
ROUND = RoundNumbers(1, 3, 12, 3, 2, 0, 1, {"inside_band": 1}, {"clip": REWARD}, accuracy=0.75)
REPORT = RoundsReport("online", (ROUND,), steps=9, pairs=2, adapter=Path("demo/adapter"))


@pytest.fixture
def calls(monkeypatch):
    """Settings of the lines that were trained in rounds, or otherwise."""
    seen = {"rounds": [], "else": []}
    monkeypatch.setattr(train, "train_rounds", lambda line: seen["rounds"].append(line.settings) or REPORT)
    monkeypatch.setattr(training, "fine_tune", lambda line: seen["else"].append(line.settings))
    return seen


def test_rounds_are_walked_and_told_by_reward_noise_and_pairs(rpo, calls, tmp_path):
    done = rpo(
        "train",
        tmp_path,
        "--preset",
        "shapes",
        "--rounds",
        1,
        "--method",
        "ipo",
        "--set",
        "rounds.reference=previous",
    )

    ((settings,), others) = calls["rounds"], calls["else"]
    assert (done.code, others) == (0, [])
    assert (settings.train.method, settings.train.rounds, settings.rounds.reference) == (
        "ipo",
        1,
        "previous",
    )
    assert "1 rounds, 9 steps in all" in done.out
    assert "21.5 ± 0.25" in done.out
    assert "inside_band 1" in done.out
    assert done.out.endswith("result: demo/adapter\n")


def test_rounds_as_json_and_quietly(rpo, calls, tmp_path):
    told = json.loads(rpo("train", tmp_path, "--preset", "shapes", "--rounds", 1, "--json").out)
    assert told["rounds"][0]["rewards"]["clip"]["spread"] == 1.5
    assert rpo("train", tmp_path, "--preset", "shapes", "--rounds", 1, "--quiet").out == "demo/adapter\n"


def test_a_method_that_samples_trajectories_has_a_loop_of_its_own(rpo, calls, tmp_path):
    rpo("train", tmp_path, "--preset", "shapes", "--rounds", 1, "--method", "ddpo")
    assert (len(calls["rounds"]), len(calls["else"])) == (0, 1)


@pytest.mark.parametrize("option", ["--dry-run", "--plan"])
def test_the_plan_of_a_method_on_trajectories_is_told_by_its_rounds(
    rpo, calls, monkeypatch, tmp_path, option
):
    flops, memory = DrawFlops(10, 0, 20), Memory(1, 0, 1, 1, 0, 1)
    found = OnlinePlan(
        "ddpo", "m", 6, 3, 8, 24, 24, 5, 4, 1, 9, 4, 100, 10, flops, 10**12, memory, 4, 0, 7200.0
    )
    monkeypatch.setattr(online, "plan_online", lambda line: found)
    arguments = ["train", tmp_path, "--rounds", 3, "--method", "ddpo", option]
    told, data = rpo(*arguments), rpo(*arguments, "--json")

    assert calls == {"rounds": [], "else": []}
    assert "rounds: 3, 8 pictures each" in told.out
    assert "denoising steps: 5, of which 4 teach a use" in told.out
    assert "at least 2 hours" in told.out
    assert json.loads(data.out)["flops_per_picture"]["learning"] == 20


def test_the_probe_of_a_method_on_trajectories_times_pictures(rpo, calls, monkeypatch, tmp_path):
    found = OnlineProbe("ddpo", 16, 0.25, 0.5, 3, 0.2)
    monkeypatch.setattr(online, "probe_online", lambda line, batches: found)
    told = rpo("train", tmp_path, "--preset", "shapes", "--rounds", 3, "--method", "ddpo", "--probe", 2)

    assert calls == {"rounds": [], "else": []}
    assert "16 pictures, 0.25 s each to draw and score, 0.5 s a use to learn from" in told.out
    assert "3 rounds remain: about 12 min" in told.out


@pytest.mark.parametrize("option", ["--dry-run", "--plan"])
def test_plans_say_what_rounds_would_do_and_train_nothing(rpo, calls, monkeypatch, tmp_path, option):
    planned = [RoundPlan(1, "begun", 12, 4, 24, 0, None, 9), RoundPlan(2, "to do", 12, 0, 24, 0, None, 9)]
    monkeypatch.setattr(checks, "plan_rounds", lambda line: planned)
    each = TrainPlan(
        "dpo", "m", 8, 3, 4, 2, 2, 100, 10, Flops(1, 2, 1), 4, 0, 48, Memory(1, 0, 1, 1, 0, 1), 4
    )
    monkeypatch.setattr(training, "plan", lambda line: each)
    done = rpo("train", tmp_path, "--preset", "shapes", "--rounds", 2, option)
    assert calls == {"rounds": [], "else": []}
    assert [line.split()[:2] for line in done.out.splitlines()[1:3]] == [["1", "begun"], ["2", "to"]]
    assert "each round: dpo on m" in done.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "spin"], "train.rounds: spin makes its losers itself"),
        (["--rounds", "2", "--full"], "train.full: rounds make pictures with a LoRA"),
        (["--rounds", "2", "--method", "npo"], "npo learns what to keep away from"),
        (["--rounds", "2", "--set", "rounds.reference=base", "--method", "sapo"], "a reference that moves"),
        (["--rounds", "-1"], "train.rounds: input should be greater than or equal to 0"),
        (["--rounds", "2", "--set", "rounds.strengths=[1.5]"], "rounds.strengths"),
        (["--rounds", "2", "--set", "rounds.refrence=base"], "did you mean 'rounds.reference'"),
    ],
)
def test_contradictions_end_with_two_lines_and_exit_code_2(rpo, tmp_path, arguments, told):
    done = rpo("train", tmp_path / "run", "--preset", "shapes", *arguments)
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "run").exists()

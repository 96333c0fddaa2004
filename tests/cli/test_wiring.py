"""run, build-pairs and train: what the door hands to the line, with the line's own function replaced."""

import json
from pathlib import Path

import pytest

from rpo_cli.line import run as line_run
from rpo_cli.line import stage as line_stage
from rpo_cli.line import training
from rpo_cli.line.dataset import inputs
from rpo_cli.line.dataset.build import PairsReport
from rpo_cli.line.run import RunReport
from rpo_cli.line.stage import StageReport
from rpo_cli.train.composition import BetaAdvice
from rpo_cli.train.look_ahead.memory import Memory
from rpo_cli.train.look_ahead.plan import Flops, TrainPlan
from rpo_cli.train.look_ahead.probe import TrainProbe
from rpo_cli.train.run import Prepared, TrainReport

SCORES = StageReport("score", 4, 0, 4, 0, {}, 1.0, None)
PAIRS = PairsReport(2, 2, 0, {}, train=2, validation=0, path="demo/dataset")


@pytest.fixture
def calls(monkeypatch):
    """What the line was called with: (name, line, options)."""
    seen = []

    def stand_in(name, report):
        def call(line, *arguments, **options):
            seen.append((name, line.settings, arguments, options))
            return report

        return call

    monkeypatch.setattr(line_run, "run", stand_in("run", RunReport([SCORES], PAIRS, None, None)))
    monkeypatch.setattr(inputs, "build_pairs", stand_in("build_pairs", PAIRS))
    monkeypatch.setattr(line_stage, "run_stage", stand_in("run_stage", SCORES))
    monkeypatch.setattr("rpo_cli.line.work.generate.live_images", lambda line: ["a picture"])
    monkeypatch.setattr(
        training, "fine_tune", stand_in("train", TrainReport("dpo", 9, 2, Path("demo/adapter")))
    )
    return seen


def test_run_hands_on_settings_last_step_and_shard(rpo, calls, tmp_path):
    done = rpo("run", tmp_path, "--limit", 3, "--seed", 5, "--until", "edit", "--shard", "1/4", "--quiet")

    ((name, settings, arguments, options),) = calls
    assert (done.code, done.out) == (0, f"{tmp_path}\n")
    assert (name, arguments) == ("run", ("edit",))
    assert options == {"shard": (1, 4), "allow_missing": False}
    assert (settings.prompts.limit, settings.run.seed) == (3, 5)


def test_build_pairs_scores_before_it_judges(rpo, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "rpo_cli.line.preflight.preflight", lambda line, steps, *, alone: None
    )  # no such folders
    (tmp_path / "run.json").write_text("{}")
    options = ["--reward", "clip=a", "--reward", "vqascore=b", "--strategy", "all", "--retry-rejects"]
    done = rpo("build-pairs", tmp_path, *options, "--json")

    (scored, judged) = calls
    assert json.loads(done.out)["pairs"]["accepted"] == 2
    assert (scored[0], scored[2:], judged[0]) == (
        "run_stage",
        (("score",), {"retry_rejects": True, "allow_missing": False}),
        "build_pairs",
    )
    assert scored[1].score.rewards == ("clip=a", "vqascore=b")
    assert judged[1].pairs.strategy == "all"


@pytest.mark.parametrize("command", ["build-pairs", "run"])
def test_going_on_without_scores_is_asked_for_at_each_call(command, rpo, calls, tmp_path, monkeypatch):
    monkeypatch.setattr("rpo_cli.line.preflight.preflight", lambda line, steps, *, alone: None)
    (tmp_path / "run.json").write_text("{}")
    rpo(command, tmp_path, "--preset", "shapes", "--allow-missing", "--quiet")
    first = [options["allow_missing"] for *_, options in calls]
    calls.clear()
    rpo(command, tmp_path, "--preset", "shapes", "--quiet")

    assert set(first) == {True}
    assert {options["allow_missing"] for *_, options in calls} == {False}


def test_suggest_beta_proposes_and_trains_nothing(rpo, calls, monkeypatch, tmp_path):
    advice = BetaAdvice("dpo", 200.0, 100.0, 0.2, 0.1, 0.01, 64, "a rule")
    monkeypatch.setattr(training, "suggest_beta", lambda line: advice)
    told = rpo("train", tmp_path, "--preset", "shapes", "--suggest-beta")
    quiet = rpo("train", tmp_path, "--preset", "shapes", "--suggest-beta", "--quiet")

    assert calls == []
    assert ("a rule" in told.out, "diffusers-sd" in told.out) == (True, True)
    assert quiet.out == "200\n"


def test_probe_times_steps_and_trains_nothing(rpo, calls, monkeypatch, tmp_path):
    monkeypatch.setattr(
        training, "probe", lambda line, steps: TrainProbe("dpo", steps, 6.0, 8.0, 1200, 0.67)
    )
    told = rpo("train", tmp_path, "--preset", "shapes", "--probe", 3)

    assert calls == []
    assert "3 steps in 6.0 s, 8 pairs/s; 1,200 steps remain: about 40 min" in told.out


def test_train_hands_on_its_settings(rpo, calls, tmp_path):
    done = rpo(
        "train",
        tmp_path,
        "--preset",
        "shapes",
        "--method",
        "sft",
        "--full",
        "--learning-rate",
        "1e-5",
        "--seed",
        7,
        "--quiet",
    )

    ((name, settings, _, _),) = calls
    assert (done.code, done.out, name) == (0, "demo/adapter\n", "train")
    assert (settings.train.method, settings.train.full) == ("sft", True)
    assert (settings.train.learning_rate, settings.train.seed, settings.run.seed) == (1e-5, 7, 0)


def test_edit_takes_a_grid_of_strengths(rpo, tmp_path, monkeypatch):
    """A repeated option is a list; here a plan, which makes nothing."""
    seen = []
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr("rpo_cli.line.preflight.preflight", lambda line, steps, *, alone: None)
    monkeypatch.setattr(
        "rpo_cli.line.run.plan",
        lambda line, names, **options: seen.append((line.settings.edit, names)) or [],
    )

    rpo("edit", tmp_path, "--guidance", 3, "--guidance", 7.5, "--mode", "each", "--dry-run")

    ((edit, names),) = seen
    assert (edit.guidance, edit.mode, names) == ((3.0, 7.5), "each", ["edit"])


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["--until", "generate"], ("generate",)),
        (["--until", "build-pairs"], ("generate", "critique", "edit", "build-pairs")),
        ([], ("generate", "critique", "edit", "build-pairs", "train")),
        (["--set", "pairs.strategy=seeds"], ("generate", "build-pairs", "train")),
    ],
)
def test_a_dry_run_plans_the_steps_that_a_run_would_walk(rpo, calls, tmp_path, monkeypatch, words, steps):
    planned = []
    monkeypatch.setattr("rpo_cli.line.run.forecast", lambda line, steps: planned.append(steps) or [])

    assert rpo("run", tmp_path, "--preset", "shapes", *words, "--dry-run").code == 0

    assert planned == [steps]
    assert calls == []


def test_a_dry_run_without_models_is_refused_as_the_run_would_be(rpo, tmp_path):
    dry, real = (rpo("run", tmp_path / "run", *words) for words in (["--dry-run"], []))

    assert (dry.code, dry.err) == (real.code, real.err)
    assert dry.code == 2


def test_prepare_says_what_is_encoded_and_trains_nothing(rpo, calls, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "prepare", lambda line: Prepared(9, 2, Path("demo/cache")))
    told, quiet = (
        rpo("train", tmp_path, "--preset", "shapes", "--prepare"),
        rpo("train", tmp_path, "--preset", "shapes", "--prepare", "--quiet"),
    )

    assert calls == []
    assert "9 pairs and 2 held out" in told.out
    assert quiet.out == "demo/cache\n"


def test_a_plan_is_told_and_nothing_is_trained(rpo, calls, monkeypatch, tmp_path):
    found = TrainPlan(
        "dpo", "m", 8, 3, 4, 2, 2, 100, 10, Flops(1, 2, 1), 4, 0, 48, Memory(1, 0, 1, 1, 0, 1), 4
    )
    monkeypatch.setattr(training, "plan", lambda line: found)
    told, data = (
        rpo("train", tmp_path, "--preset", "shapes", "--dry-run"),
        rpo("train", tmp_path, "--preset", "shapes", "--dry-run", "--json"),
    )

    assert calls == []
    assert "10 of 100 parameters" in told.out
    assert "1.5 epochs" in told.out
    assert json.loads(data.out)["flops"]["policy_backward"] == 2

"""A researcher who compares methods on one run: each training has what it was given, and its numbers."""

import json
import shutil
from pathlib import Path

import pytest

from rpo_cli.cli import app
from rpo_cli.errors import Terminated
from rpo_cli.line import run as line_run

RUN = ("run", "r", "--preset", "shapes", "--limit", 8, "--seed", 7, "--until", "build-pairs")
QUICK = ("--steps", 2, "--set", "train.global_batch=4", "--set", "train.batch_size=4")


def trained(name):
    """What a training has written of itself."""
    return json.loads(Path("r/train", name, "done.json").read_text())["identity"]


def recorded():
    return json.loads(Path("r/run.json").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The run up to its pairs, which takes seconds; every walk begins with a copy."""
    home = tmp_path_factory.mktemp("researcher")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.chdir(home)
        assert app.call([str(word) for word in RUN]) == 0
    return home / "r"


@pytest.fixture
def pairs(rpo, finished):
    shutil.copytree(finished, "r")
    return rpo


def test_two_methods_after_each_other_have_their_own_beta(pairs):
    first = pairs("train", "r", "--method", "dpo", "--beta", 5000, "--seed", 3, "--name", "first", *QUICK)
    second = pairs("train", "r", "--method", "ppod", "--name", "second", *QUICK)

    assert (first.code, second.code) == (0, 0)
    assert (trained("first")["beta"], trained("first")["seed"]) == (5000, 3)
    assert (trained("second")["beta"], trained("second")["seed"]) == (4e5, 7)
    assert "train.beta = 500.0 (preset shapes), which is for train.method dpo, not ppod" in second.err
    assert "nobody has published one for ppod on sd1" in second.err
    assert recorded()["options"].keys() == {"prompts.limit", "run.seed"}
    assert recorded()["trainings"]["first"]["options"]["train.beta"] == 5000
    assert "train.beta" not in recorded()["trainings"]["second"]["options"]

    again = pairs("train", "r", "--name", "first")
    assert again.code == 0
    assert "as told earlier: " in again.err
    assert "train.beta = 5000" in again.err

    told = json.loads(pairs("settings", "r", "train.beta", "--name", "first", "--json").out)
    assert (told["value"], told["origin"][:9]) == (5000, "rpo train")
    other = json.loads(pairs("settings", "r", "train.beta", "--name", "third", "--json").out)
    assert (other["value"], other["origin"]) == (500, "preset shapes")

    # a method that samples is not refused for a beta that nobody gave it
    assert pairs("train", "r", "--method", "ddpo", "--rounds", 1, "--name", "third", "--dry-run").code == 0


def test_a_run_killed_before_its_training_goes_on_with_what_it_was_told(pairs, monkeypatch):
    def killed(line):
        raise Terminated

    with monkeypatch.context() as patch:
        patch.setattr(line_run, "fine_tune", killed)
        assert pairs("run", "r", *("--set", "train.steps=2"), *QUICK[2:]).code == 143

    done = pairs("run", "r")

    assert done.code == 0
    assert "train.steps = 2 (rpo run, " in done.err
    assert trained("default")["steps"] == 2


def test_a_smaller_dataset_says_so_and_which_training_stood_on_it(pairs):
    assert pairs("train", "r", "--name", "first", *QUICK).code == 0

    done = pairs("build-pairs", "r", "--min-margin", 2)

    assert done.code == 0
    assert "the dataset is smaller now: " in done.err
    assert "training 'first' was made on the dataset before: " in done.err
    notes = json.loads(pairs("build-pairs", "r", "--unset", "pairs.min_margin", "--json").out)["notes"]
    assert all("smaller" not in note for note in notes)


def test_a_setting_is_taken_back(pairs):
    assert pairs("build-pairs", "r", "--min-margin", 2).code == 0
    assert recorded()["options"]["pairs.min_margin"] == 2

    assert pairs("build-pairs", "r", "--unset", "pairs.min_margin").code == 0

    assert "pairs.min_margin" not in recorded()["options"]
    assert recorded()["origins"]["pairs.min_margin"] == "default"


def test_a_moved_run_makes_nothing_again(pairs):
    Path("r").rename("moved")

    plans = json.loads(pairs("run", "moved", "--dry-run", "--json").out)

    found = plans if isinstance(plans, list) else plans["plans"]
    assert [plan["to_make"] for plan in found] == [0] * len(found)

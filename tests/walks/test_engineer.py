"""An engineer with a model and prompts of their own: nothing of the toy world gets into the run."""

import json
from pathlib import Path

import pytest

from tests.train.families.conftest import sdxl

PROMPTS = "a cat\na dog\na house\na tree\n"


@pytest.fixture
def model(tmp_path):
    """A tiny random SDXL, saved as any other."""
    place = tmp_path / "models" / "xl"
    sdxl(tmp_path / "tokenizers").save_pretrained(place)
    return place


@pytest.fixture
def reward(tmp_path, monkeypatch):
    """A reward of the engineer's own: the mean of the red channel."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "redness.py").write_text(
        "def red(prompts, images):\n"
        "    return [float(sum(p[0] for p in i.convert('RGB').getdata())) / 255 for i in images]\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    return "score.functions=['red=redness:red']"


def test_without_preset_or_models_nothing_is_assumed(rpo):
    Path("cats.txt").write_text(PROMPTS)

    done = rpo("run", "r", "--prompts", "cats.txt")

    assert done.code == 2
    assert done.err.splitlines()[0] == (
        "error: no model is named for generate.generator, critique.critic, edit.editor, score.rewards"
    )
    for way in ("--preset NAME", "rpo init r", "--generator MODEL"):
        assert way in done.err.splitlines()[1]
    assert not Path("r").exists()


def test_a_model_named_by_hand_is_trained_with_its_own_numbers(rpo, model, reward):
    Path("cats.txt").write_text(PROMPTS)
    drawn = rpo(
        *("generate", "r", "--prompts", "cats.txt", "--generator", model, "--images-per-prompt", 3),
        *("--steps", 2, "--set", "generate.width=16", "--set", "generate.height=16"),
    )
    assert (drawn.code, drawn.err.count("error")) == (0, 0), drawn.err
    paired = rpo(
        *("build-pairs", "r", "--strategy", "seeds", "--min-margin", 0, "--val-fraction", 0),
        *("--min-change", 0, "--set", reward),
    )
    assert paired.code == 0, paired.err

    trained = rpo("train", "r", "--steps", 2, "--rank", 2, "--set", "train.global_batch=2", "--name", "xl")

    assert trained.code == 0, trained.err
    said = json.loads(Path("r/train/xl/done.json").read_text())["identity"]
    assert (said["beta"], said["learning_rate"], said["flip"], said["caption_dropout"]) == (
        *(5000, 1e-5, True, 0.0),
    )
    run = json.loads(Path("r/run.json").read_text())
    assert run["preset"] == "none"
    assert set(run["origins"].values()) <= {"default", "option", "earlier option"}
    assert "shapes" not in json.dumps(run["settings"])
    told = json.loads(rpo("settings", "r", "train", "--name", "xl", "--json").out)["settings"]
    rate = next(item for item in told if item["name"] == "train.learning_rate")
    assert "diffusion_dpo README" in rate["origin"]


def test_the_toy_worlds_critic_does_not_judge_other_pictures(rpo, model):
    Path("cats.txt").write_text(PROMPTS)
    words = ("run", "r", "--preset", "shapes", "--prompts", "cats.txt", "--generator", model)

    done = rpo(*words, "--until", "critique")

    assert done.code == 2
    assert "critique.critic: " in done.err
    assert "knows the world of shapes only" in done.err
    assert "--mix" in done.err
    assert "generate.steps = 24" in done.err  # a number of the preset's own generator, not used
    assert not Path("r/images").exists()
    assert rpo(*words, "--until", "critique", "--mix", "--dry-run").code == 0


def test_another_critic_does_not_judge_the_toy_worlds_pictures(rpo, model):
    for more in ((), ("--dry-run",)):  # which says what the run would say
        done = rpo("run", "r", "--preset", "shapes", "--limit", 2, "--reward", f"clip={model}", *more)
        assert done.code == 2
        assert "score.rewards: " in done.err
        assert "draws the closed world of shapes" in done.err


def test_words_that_the_toy_world_lacks_are_told_before_it_draws(rpo):
    Path("cats.txt").write_text("a cat\na red circle\n")

    done = rpo("generate", "r", "--preset", "shapes", "--prompts", "cats.txt", "--images-per-prompt", 1)

    assert done.code == 0
    read, first, second, *_ = done.err.splitlines()
    assert read == "cats.txt: 2 rows: 2 taken"
    assert "1 of 2 prompts have words that " in first
    assert first.endswith("cat")
    assert second.startswith("generate")

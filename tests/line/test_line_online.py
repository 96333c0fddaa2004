"""What the line hands to a method that samples: its prompts, its rewards, and numbers made for it."""

import json

import pytest

from rpo_cli import open_line
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.line.online import own_online_settings, plan_online
from rpo_cli.line.preflight import preflight
from rpo_cli.line.training import fine_tune, own_settings, plan, prepare, probe, suggest_beta
from rpo_cli.line.work.generate import parent_prompts
from rpo_cli.text import split_of

ROUNDS = {"train.rounds": 2}


@pytest.mark.parametrize(
    ("method", "rate", "beta"),
    [("ddpo", 3e-4, None), ("dpok", 1e-5, None), ("d3po", 3e-5, None), ("ppod-online", 1e-4, None)],
)
def test_a_presets_rate_and_beta_are_not_for_trajectories(tmp_path, method, rate, beta):
    """The shapes preset has 500 and 3e-4 for pairs; None stands for the method's own."""
    line = open_line(tmp_path, {"train.method": method, **ROUNDS}, preset="shapes")
    settings, _ = own_online_settings(line)
    assert (settings.learning_rate, settings.beta) == (rate, beta)
    assert own_settings(line) == settings


def test_what_the_user_names_counts(tmp_path):
    options = {"train.method": "dpok", "train.learning_rate": 2e-3, "train.beta": 0.5, **ROUNDS}
    settings, _ = own_online_settings(open_line(tmp_path, options, preset="shapes"))
    assert (settings.learning_rate, settings.beta) == (2e-3, 0.5)


def test_sampling_is_that_of_generate_unless_said_otherwise(tmp_path):
    options = {"train.method": "ddpo", "generate.steps": 9, "generate.guidance": 3.0, **ROUNDS}
    _, online = own_online_settings(open_line(tmp_path / "a", options, preset="shapes"))
    assert (online.steps, online.guidance) == (9, 3.0)
    _, online = own_online_settings(
        open_line(tmp_path / "b", {**options, "online.steps": 4}, preset="shapes")
    )
    assert (online.steps, online.guidance) == (4, 3.0)


def test_all_mistakes_are_told_before_anything_is_made(tmp_path):
    wrong = {"train.method": "ddpo", "train.steps": 50, "train.flip": True, "online.rewards": ["clop"]}
    line = open_line(tmp_path, wrong, preset="shapes")
    with pytest.raises(SettingsError) as caught:
        preflight(line, ["generate", "critique", "edit", "build-pairs", "train"])
    for setting in ("train.steps", "train.flip", "train.rounds", "online.rewards: 'clop'"):
        assert setting in caught.value.message


@pytest.mark.parametrize("command", [plan, prepare, suggest_beta, lambda line: probe(line, 1)])
def test_what_looks_at_a_dataset_is_refused(tmp_path, command):
    line = open_line(tmp_path, {"train.method": "d3po", **ROUNDS}, preset="shapes")
    with pytest.raises(UsageError, match="d3po samples pictures of its own"):
        command(line)


def test_a_plan_counts_the_runs_training_prompts_and_writes_nothing(tmp_path):
    options = {"train.method": "ddpo", **ROUNDS, "prompts.limit": 12, "pairs.val_fraction": 0.5}
    line = open_line(tmp_path, options, preset="shapes")
    with pytest.raises(UsageError, match="no run here"):
        plan_online(line)
    line.record()
    before = sorted(tmp_path.rglob("*"))
    found = plan_online(line)
    assert sorted(tmp_path.rglob("*")) == before
    kept = [prompt for prompt in parent_prompts(line) if split_of(prompt, 0.5) == "train"]
    assert 0 < found.prompts == len(kept) < 12
    assert found.pictures_per_round == 4 * min(8, len(kept))


def test_without_rewards_there_is_nothing_to_learn(tmp_path):
    options = {"train.method": "ddpo", "score.rewards": [], **ROUNDS}
    with pytest.raises(UsageError, match="no reward to learn from"):
        fine_tune(open_line(tmp_path, options, preset="shapes"))


@pytest.mark.slow
def test_a_run_without_pairs_learns_from_its_prompts_and_rewards(tmp_path):
    """The shapes preset with its CLIP reward: a round of two pictures of one training prompt."""
    options = {
        "train.method": "score-as-action",
        "train.rounds": 1,
        "train.batch_size": 2,
        "online.steps": 3,
        "online.images_per_prompt": 2,
        "online.prompts_per_round": 1,
        "online.rewards": ["clip"],
        "pairs.val_fraction": 0.5,
    }
    line = open_line(tmp_path, options, preset="shapes")
    report = fine_tune(line)
    assert (report.images, report.pairs, report.steps) == (2, 0, 1)
    assert {path.name for path in report.adapter.iterdir()} == {
        "README.md",
        "pytorch_lora_weights.safetensors",
    }
    (row,) = [
        json.loads(text) for text in (tmp_path / "train/default/metrics.jsonl").read_text().splitlines()
    ]
    assert row["pictures_scored"] == 2 * 4
    assert row["reward_clip"] == row["reward_mean"]
    assert not (tmp_path / "dataset").exists()
    table = line.store.columns("prompts", ["prompt"])["prompt"].to_pylist()
    assert {split_of(text, 0.5) for text in table} == {"train", "validation"}
    assert fine_tune(open_line(tmp_path, preset="shapes")).skipped

"""What the line adds to a training's settings, and what it refuses before anything is made."""

import pytest

from rpo_cli import open_line
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.line import training
from rpo_cli.line.preflight import preflight
from rpo_cli.line.training import _embedder, own_settings


@pytest.mark.parametrize(
    ("method", "beta"),
    [
        *(("dpo", 500.0), ("ipo", 500.0), ("rank-dpo", 500.0)),
        *(("kto", 2000.0), ("npo", 1000.0), ("smpo", 2000.0), ("mapo", 1000.0), ("rainbow", 100.0)),
        *(("dspo", 0.001), ("ppod", 4e5)),
    ],
)
def test_a_presets_beta_is_for_methods_that_publish_none_of_their_own(tmp_path, method, beta):
    """The shapes preset has 500; of MaPO's T or PPOD's log-ratios that would be nonsense."""
    line = open_line(tmp_path, {"train.method": method}, preset="shapes")
    assert own_settings(line).beta == beta


def test_a_beta_that_the_user_gives_counts_for_every_method(tmp_path):
    line = open_line(tmp_path, {"train.method": "mapo", "train.beta": 200.0}, preset="shapes")
    assert own_settings(line).beta == 200.0


def test_contradictions_end_a_run_before_its_first_step(tmp_path):
    wrong = {"train.method": "mapo", "train.reference_mix": 0.5, "train.link": "ipo"}
    line = open_line(tmp_path, wrong, preset="shapes")
    with pytest.raises(SettingsError) as caught:
        preflight(line, ["generate", "critique", "edit", "build-pairs", "train"])
    assert "train.reference_mix" in caught.value.message
    assert "train.link" in caught.value.message


def test_the_clip_reward_of_the_run_embeds_unless_another_model_is_named(tmp_path):
    for method, expected in (("relative", True), ("dpo", False)):
        line = open_line(tmp_path / method, {"train.method": method}, preset="shapes")
        found = _embedder(line, own_settings(line))
        assert (found is not None) == expected
    reward = dict(item.partition("=")[::2] for item in line.settings.score.rewards)["clip"]
    line = open_line(tmp_path / "named", {"train.method": "relative"}, preset="shapes")
    found = _embedder(line, own_settings(line))
    assert found is not None
    assert found.model == reward
    assert found.identity == line.identity(reward).revision


@pytest.mark.parametrize(("own", "seed"), [(None, 3), (5, 5), (0, 0)])
def test_a_training_has_the_runs_seed_unless_it_has_one_of_its_own(tmp_path, monkeypatch, own, seed):
    monkeypatch.setattr(training, "prepare_cache", lambda inputs, observer: inputs)
    folder = tmp_path / "judged" / "train"
    folder.mkdir(parents=True)
    (folder / "a.png").touch()
    (folder / "metadata.jsonl").write_text('{"file_name": "a.png", "caption": "a", "label": true}\n')
    settings = {"train.seed": own, "run.seed": 3, "train.dataset": str(folder.parent)}
    assert training.prepare(open_line(tmp_path / "run", settings, preset="shapes")).seed == seed


def test_a_plan_of_a_path_that_is_no_run_is_refused_and_makes_nothing(tmp_path):
    with pytest.raises(UsageError, match="no run here"):
        training.plan(open_line(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()

"""Rewards at the door: what belongs into a row's key, and weights that are not loaded."""

import json

import pytest

from rpo_cli import open_line
from rpo_cli.config import PairSettings
from rpo_cli.errors import UsageError
from rpo_cli.line.critics import reward_identity
from rpo_cli.line.dataset import _said
from rpo_cli.recipes.rewards import SCORERS


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    return folder


@pytest.mark.parametrize("name", [name for name, found in SCORERS.items() if found.version])
def test_version_and_preprocessing_of_a_scorer_are_in_its_rows(name, tmp_path, model):
    said = json.loads(reward_identity(open_line(tmp_path / "run", {}), name, str(model))[1])

    assert (said["scorer"], said["preprocessing"]) == (SCORERS[name].version, SCORERS[name].preprocessing)


def test_the_key_of_older_rewards_stays_what_it_was(tmp_path, model):
    found, said = reward_identity(open_line(tmp_path / "run", {}), "clip", str(model))

    assert json.loads(said) == {"reward": "clip", "model": found.revision, "dtype": "float32"}


@pytest.mark.parametrize("name", [name for name, found in SCORERS.items() if found.conversion])
@pytest.mark.parametrize("kind", ["file", "folder", "hub id"])
def test_a_published_pickle_is_refused_with_its_conversion(name, kind, tmp_path):
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "weights.pt"
    file.write_bytes(b"\x80")
    ref = {"file": str(file), "folder": str(file.parent), "hub id": SCORERS[name].pickled[0]}[kind]

    with pytest.raises(UsageError, match="pickle") as caught:
        reward_identity(open_line(tmp_path / "run", {}), name, ref)
    assert "safetensors.torch.save_file" in caught.value.hint


def test_settings_that_came_later_change_no_build_that_does_not_use_them():
    """The fingerprint of a dataset is over these; with the defaults it is that of earlier versions."""
    later = {"calibration": "win-rate", "selection": "pareto", "reward_weights": ("r=2",)}
    plain = _said(PairSettings(), {})

    assert not later.keys() & plain.keys()
    for name, value in later.items():
        assert _said(PairSettings(**{name: value}), {}).keys() - plain.keys() == {name}

"""The world of a model is told by its weights, wherever they lie and whatever it is called."""

import shutil

import pytest

from rpo_cli import open_line
from rpo_cli.errors import UsageError
from rpo_cli.identity import ModelIdentity, identify, served
from rpo_cli.line.preflight import preflight
from rpo_cli.line.work.model_checks import known_weights, world_of
from rpo_cli.shapes.preset import MODELS


@pytest.mark.parametrize("name", ["critic", "editor", "reward", "text-to-image"])
def test_every_embedded_model_is_known_by_its_weights_under_any_name(name, tmp_path):
    shutil.copytree(MODELS / name, tmp_path / "mine")
    assert world_of(identify(str(tmp_path / "mine"))) == "shapes"


def test_what_was_tuned_of_an_embedded_model_has_its_world(tmp_path):
    """A whole pipeline of another denoiser still has the base's other parts."""
    shutil.copytree(MODELS / "text-to-image", tmp_path / "tuned")
    weights = tmp_path / "tuned" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x01\x00")
    assert world_of(identify(str(tmp_path / "tuned"))) == "shapes"


def test_any_other_model_has_none(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert world_of(identify(str(tmp_path))) is None
    assert world_of(served("shapes")) is None
    assert world_of(ModelIdentity("org/name", "hub", "c" * 40)) is None
    assert set(known_weights().values()) == {"shapes"}


@pytest.mark.parametrize(
    ("setting", "step"),
    [("critique.critic", "critique"), ("edit.editor", "edit"), ("score.rewards", "build-pairs")],
)
def test_each_role_is_refused_beside_pictures_of_another_world_unless_they_may_mix(tmp_path, setting, step):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    (tmp_path / "other" / "model.safetensors").write_bytes(b"other")
    options = {"generate.generator": str(tmp_path / "other")}
    with pytest.raises(UsageError, match=setting) as caught:
        preflight(open_line(tmp_path / "run", options, preset="shapes"), [step])
    assert "--mix" in caught.value.hint
    preflight(open_line(tmp_path / "run", {**options, "run.mix": True}, preset="shapes"), [step])


def test_a_function_of_the_users_fits_any_world(tmp_path):
    options = {"score.rewards": (), "score.functions": ("mine=json:loads",)}
    preflight(open_line(tmp_path / "run", options, preset="shapes"), ["build-pairs"])


@pytest.mark.parametrize("method", ["dpo", "ddpo"])
def test_a_training_that_draws_with_a_model_of_its_own_is_judged_by_none_of_another_world(tmp_path, method):
    other = tmp_path / "other"
    shutil.copytree(MODELS / "text-to-image", other)
    for weights in other.rglob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-4] + b"\x00\x00\x01\x00")
    options = {"train.model": str(other), "train.method": method, "train.rounds": 1}
    steps = ["train"] if method == "ddpo" else ["rounds", "build-pairs", "train"]
    with pytest.raises(UsageError, match=r"score\.rewards"):
        preflight(open_line(tmp_path / "run", options, preset="shapes"), steps)
    preflight(open_line(tmp_path / "run", {**options, "run.mix": True}, preset="shapes"), steps)

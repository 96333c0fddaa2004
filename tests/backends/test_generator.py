"""A generator whose denoiser comes from another folder."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rpo_cli.backends.generator import DiffusersGenerator
from rpo_cli.backends.loading import generators
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Weights
from rpo_cli.shapes.preset import MODELS

MODEL = MODELS / "text-to-image"
PROMPT = "a large red circle on the left of a white background"


def picture(**options):
    backend = DiffusersGenerator(Weights(str(MODEL)), steps=2, guidance=1.1, **options)
    backend.setup()
    return np.asarray(backend.generate([PROMPT], [7])[0])


def test_the_models_own_unet_by_its_folder_makes_the_same_picture():
    assert np.array_equal(picture(denoiser=str(MODEL / "unet")), picture())


def test_each_row_draws_its_noise_from_a_seed_of_its_own_on_the_cpu():
    drawn = [torch.randn(4, generator=one) for one in generators([7, 8])]
    alone = [torch.randn(4, generator=torch.Generator("cpu").manual_seed(seed)) for seed in (7, 8)]
    assert torch.equal(torch.stack(drawn), torch.stack(alone))


def test_pickled_weights_of_a_pipeline_are_not_loaded(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(MODEL, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(RpoError, match="cannot be loaded as a diffusers pipeline"):
        DiffusersGenerator(Weights(str(folder))).setup()


@pytest.mark.parametrize("config", [None, {"_class_name": "Popen"}, {"_class_name": "DDIMScheduler"}, []])
def test_a_folder_that_is_no_denoiser_is_refused(tmp_path, config):
    """Nothing but a model class of diffusers is built from a name that a file says."""
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError):
        picture(denoiser=str(tmp_path))

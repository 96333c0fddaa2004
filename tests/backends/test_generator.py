"""A generator whose denoiser comes from another folder."""

import json

import numpy as np
import pytest

from rpo_cli.backends.generator import DiffusersGenerator
from rpo_cli.errors import UsageError
from rpo_cli.shapes.preset import MODELS

MODEL = MODELS / "text-to-image"
PROMPT = "a large red circle on the left of a white background"


def picture(**options):
    backend = DiffusersGenerator(str(MODEL), steps=2, guidance=1.1, **options)
    backend.setup()
    return np.asarray(backend.generate([PROMPT], [7])[0])


def test_the_models_own_unet_by_its_folder_makes_the_same_picture():
    assert np.array_equal(picture(denoiser=str(MODEL / "unet")), picture())


@pytest.mark.parametrize("config", [None, {"_class_name": "Popen"}, {"_class_name": "DDIMScheduler"}, []])
def test_a_folder_that_is_no_denoiser_is_refused(tmp_path, config):
    """Nothing but a model class of diffusers is built from a name that a file says."""
    if config is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError):
        picture(denoiser=str(tmp_path))

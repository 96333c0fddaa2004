"""Noise levels of UNet models come from their own schedulers; what is no such model is refused."""

import json
import shutil

import pytest
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler

from rpo_cli.errors import UsageError
from rpo_cli.train.families.unet import StableDiffusion1
from tests.closeness import assert_close


@pytest.fixture
def copy(model, tmp_path):
    """A copy of the model's folder, to be spoilt."""
    return shutil.copytree(model, tmp_path / "model")


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, PNDMScheduler]
)
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_noise_levels_and_target_come_from_the_models_own_scheduler(copy, scheduler, kind):
    own = scheduler(beta_start=0.00085, beta_end=0.02, beta_schedule="scaled_linear", prediction_type=kind)
    own.save_pretrained(copy / "scheduler")
    schedule = StableDiffusion1(str(copy)).schedule
    assert schedule.prediction_type == kind
    assert_close(schedule.alpha**2, own.alphas_cumprod)


def test_a_flow_model_is_refused(copy):
    path = copy / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"}))
    with pytest.raises(UsageError, match="FlowMatchEulerDiscreteScheduler"):
        _ = StableDiffusion1(str(copy)).schedule


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"model_index\.json cannot be loaded") as caught:
        StableDiffusion1(str(tmp_path)).check()
    assert "safetensors" in caught.value.hint


def test_a_model_with_two_text_encoders_is_refused_by_name(copy):
    path = copy / "model_index.json"
    index = json.loads(path.read_text())
    index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
    path.write_text(json.dumps(index | {"_class_name": "StableDiffusionXLPipeline"}))
    with pytest.raises(UsageError, match="StableDiffusionXLPipeline cannot be trained yet"):
        StableDiffusion1(str(copy)).check()


def test_a_pickle_checkpoint_is_refused_unread(copy):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(UsageError, match="unet cannot be loaded") as caught:
        StableDiffusion1(str(copy)).load_denoiser()
    assert "unet/diffusion_pytorch_model.bin is pickled" in caught.value.hint


def test_a_part_that_is_gone_gets_no_hint_about_pickles(copy):
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UsageError, match="unet cannot be loaded") as caught:
        StableDiffusion1(str(copy)).load_denoiser()
    assert "pickle" not in caught.value.hint


def test_an_editor_is_refused(tmp_path, model):
    from diffusers import UNet2DConditionModel

    copy = shutil.copytree(model, tmp_path / "editor")
    config = UNet2DConditionModel.load_config(copy, subfolder="unet") | {"in_channels": 8}
    UNet2DConditionModel.from_config(config).save_pretrained(copy / "unet")
    with pytest.raises(UsageError, match="takes 8 channels, as an editor's does"):
        StableDiffusion1(str(copy)).load_denoiser()
    with pytest.raises(UsageError, match="takes 8 channels, as an editor's does"):
        StableDiffusion1(str(copy)).check()


def test_a_cut_off_weight_file_is_refused(copy):
    path = copy / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UsageError, match="unet cannot be loaded"):
        StableDiffusion1(str(copy)).load_denoiser()

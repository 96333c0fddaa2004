"""Every family loads, conditions, noises and predicts as the loop expects, and as its pipeline does."""

import json
import shutil

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from rpo_cli import registry
from rpo_cli.errors import UsageError
from rpo_cli.train.data.latents import Frame
from rpo_cli.train.families.family import open_family
from rpo_cli.train.noise import add_noise, image_errors, target
from tests.closeness import FORWARD, assert_close

SQUARE = Frame((16, 16), (16, 16))
VARIANTS = [*registry.families, "sd3-without-t5", "flux-schnell"]
PROMPTS = ["a red thing", "blue"]
NO_GUIDANCE = {"sd1": 1.0, "sdxl": 1.0, "sd3": 1.0, "sd3-without-t5": 1.0, "flux": 3.5, "flux-schnell": 3.5}


@pytest.fixture(params=VARIANTS)
def name(request) -> str:
    return request.param


def condition_of(family, prompts: list[str]) -> dict[str, torch.Tensor]:
    condition = family.load_encoders("cpu").encode_prompts(prompts)
    if family.sized:
        condition["time_ids"] = SQUARE.time_ids("real").repeat(len(prompts), 1)
    return condition


def listen(module, calls: list) -> torch.utils.hooks.RemovableHandle:
    """Append the arguments by name and the output of every call of `module`."""

    def hook(_, positional, named, output):
        given = dict(zip(("sample", "timestep"), positional, strict=False)) | named
        calls.append((given, output[0]))

    return module.register_forward_hook(hook, with_kwargs=True)


def test_a_family_keeps_its_contract(name, opened):
    family = opened(name).family
    family.check()
    denoiser, schedule = family.load_denoiser(), family.schedule
    (channels, _, _), _ = family.latent_size()
    mean, std = family.load_encoders("cpu").encode_images([Image.new("RGB", (20, 16))] * 2, (16, 16))
    assert mean.shape == std.shape == (2, channels, 8, 8)
    assert (std > 0).all()
    condition = condition_of(family, PROMPTS)
    assert set(condition) == {*family.prompt_parts, *(["time_ids"] if family.sized else [])}
    assert all(len(value) == 2 for value in condition.values())
    noise, timesteps = torch.randn_like(mean), torch.tensor([0, schedule.steps - 1])
    noisy = add_noise(schedule, mean, noise, timesteps)
    prediction = family.predict(denoiser, noisy, schedule.times(timesteps), condition)
    assert prediction.shape == mean.shape
    assert image_errors(prediction, target(schedule, mean, noise, timesteps)).shape == (2,)
    assert not denoiser.training
    names = [module for module, _ in denoiser.named_modules()]
    assert all(any(found.endswith(wanted) for found in names) for wanted in family.lora_targets)
    assert 16 % family.grain() == 0


def test_the_models_own_index_chooses_its_family(name, opened):
    assert type(opened(name).family) is registry.load("families", name.split("-")[0])


def test_a_model_of_no_family_is_refused_by_its_name(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "KolorsPipeline"}')
    with pytest.raises(UsageError, match="a KolorsPipeline cannot be trained yet"):
        open_family(str(tmp_path))


def test_prompts_are_encoded_as_the_pipeline_encodes_them(name, opened):
    family, pipeline = opened(name).family, opened(name).pipeline
    found = condition_of(family, PROMPTS)
    arguments = {"device": "cpu", "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
    with torch.no_grad():
        if name == "sd1":
            expected = {"hidden": pipeline.encode_prompt(PROMPTS, **arguments)[0]}
        elif name == "sdxl":
            hidden, _, pooled, _ = pipeline.encode_prompt(PROMPTS, **arguments)
            expected = {"hidden": hidden, "pooled": pooled}
        elif name.startswith("sd3"):
            hidden, _, pooled, _ = pipeline.encode_prompt(PROMPTS, None, None, **arguments)
            expected = {"hidden": hidden, "pooled": pooled}
        else:
            tokens = 512 if name == "flux" else 256
            hidden, pooled, _ = pipeline.encode_prompt(PROMPTS, None, "cpu", max_sequence_length=tokens)
            expected = {"hidden": hidden, "pooled": pooled}
    for part, value in expected.items():
        assert_close(found[part], value, FORWARD)


def test_the_denoiser_is_fed_what_the_pipeline_feeds_it_and_says_the_same(name, opened):
    """Both calls are recorded at each of two sampling steps; every argument and the output are equal."""
    family, pipeline = opened(name).family, opened(name).pipeline
    denoiser = getattr(pipeline, family.component)
    theirs: list = []
    handle = listen(denoiser, theirs)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    fed = latents
    if name.startswith("flux"):
        fed = pipeline._pack_latents(latents, 2, 4, 8, 8)
    pipeline(
        PROMPTS,
        num_inference_steps=2,
        guidance_scale=NO_GUIDANCE[name],
        height=16,
        width=16,
        latents=fed,
        output_type="latent",
        **({"max_sequence_length": 256} if name == "flux-schnell" else {}),
    )
    handle.remove()
    condition = condition_of(family, PROMPTS)
    assert len(theirs) == 2
    for given, expected in theirs:
        mine: list = []
        handle = listen(denoiser, mine)
        with torch.no_grad():
            noisy = given["sample"] if "sample" in given else given["hidden_states"]
            if name.startswith("flux"):
                noisy = pipeline._unpack_latents(noisy, 16, 16, 2)
                expected = pipeline._unpack_latents(expected, 16, 16, 2)
            times = given["timestep"] * (1000 if name.startswith("flux") else 1)
            prediction = family.predict(denoiser, noisy, times.expand(2), condition)
        handle.remove()
        assert_close(prediction, expected, FORWARD)
        compare_arguments(mine[0][0], given)


def compare_arguments(mine: dict, theirs: dict) -> None:
    for key in ("timestep", "guidance", "pooled_projections", "txt_ids", "img_ids"):
        if theirs.get(key) is not None:
            assert_close(mine[key].float(), theirs[key].float().expand_as(mine[key]))
    assert (mine.get("guidance") is None) == (theirs.get("guidance") is None)
    for key, value in (theirs.get("added_cond_kwargs") or {}).items():
        assert_close(mine["added_cond_kwargs"][key], value)
    for key in ("hidden_states", "sample"):
        if key in theirs:
            assert_close(mine[key], theirs[key])


@pytest.mark.parametrize("name", ["sdxl"])
def test_a_half_precision_checkpoint_gets_a_vae_in_float32(name, model_of, tmp_path):
    pipeline = DiffusionPipeline.from_pretrained(model_of(name))  # not the shared one: it would be rounded
    pipeline.to(torch.float16).save_pretrained(tmp_path)
    encoders = open_family(str(tmp_path)).load_encoders("cpu")
    assert encoders.vae.dtype == torch.float32
    assert encoders.encode_images([Image.new("RGB", (16, 16))])[0].dtype == torch.float32


def test_only_captions_beyond_every_text_encoder_are_too_long(opened):
    encoders = opened("sdxl").family.load_encoders("cpu")
    assert encoders.too_long(["a b c", "x " * 40]) == ["x " * 40]
    longer = opened("sd3").family.load_encoders("cpu")  # T5 reads 256 tokens where CLIP reads 16
    assert longer.too_long(["x " * 40, "x " * 300]) == ["x " * 300]


@pytest.mark.parametrize("name", ["flux"])
def test_a_flux_editor_is_refused_before_anything_is_encoded(name, model_of, tmp_path):
    folder = shutil.copytree(model_of(name), tmp_path / "editor")
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 96}))
    with pytest.raises(UsageError, match="takes 24 channels, as an editor's does"):
        open_family(str(folder)).check()

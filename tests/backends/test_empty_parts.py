"""Pipelines whose index lists parts as [null, null]: given as None, or refused where nothing is drawn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessorPil

from rpo_cli import open_line, registry
from rpo_cli.backends.loading import load_pipeline, loading
from rpo_cli.cli import app
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.work import model_checks
from rpo_cli.model_files import needed, pickled
from rpo_cli.protocols import EditRequest, Weights
from tests import tiny_editors
from tests.backends.test_published_models import Listening
from tests.train.families.conftest import sd3

SIDE = 32


@pytest.fixture(scope="session")
def without_t5(tmp_path_factory):
    return tiny_editors.save(lambda folder: sd3(folder, with_t5=False), tmp_path_factory.mktemp("sd3"))


def emptied(folder, out, *parts, kept=False):
    """A copy whose index lists parts as null; their folders are gone too, unless `kept`."""
    shutil.copytree(folder, out)
    index = json.loads((out / "model_index.json").read_text())
    (out / "model_index.json").write_text(json.dumps({**index, **{part: [None, None] for part in parts}}))
    for part in parts:
        if (out / part).is_dir() and not kept:
            shutil.rmtree(out / part)
    return out


def drawn(model, name="diffusers", **options):
    backend = registry.load("generators", name)(
        Weights(str(model)), steps=2, width=SIDE, height=SIDE, **options
    )
    backend.setup()
    return np.asarray(backend.generate(["a red circle"], [7])[0])


def checked(tmp_path, model, **settings):
    ear = Listening()
    given = {"generate.generator": str(model), "run.mix": True, **settings}
    model_checks.check_generator(open_line(tmp_path / "run", given, observer=ear))
    return ear.heard


def test_rpo_generate_draws_with_a_stable_diffusion_3_that_has_no_t5(without_t5, tmp_path):
    (tmp_path / "p.txt").write_text("a red circle\n")
    sides = [option for side in ("width", "height") for option in ("--set", f"generate.{side}={SIDE}")]
    given = ["--generator", without_t5, "--steps", "2", *sides, "--images-per-prompt", "1"]
    asked = ["--prompts", str(tmp_path / "p.txt"), "--device", "cpu"]
    assert app.call(["generate", str(tmp_path / "run"), *given, *asked]) == 0
    line = open_line(tmp_path / "run", {})
    assert line.store.columns("images", ["width"]).to_pylist() == [{"width": SIDE}]


def test_its_pictures_are_those_of_diffusers_told_of_each_empty_part(without_t5):
    pipe = DiffusionPipeline.from_pretrained(without_t5, text_encoder_3=None, tokenizer_3=None)
    seeded = torch.Generator().manual_seed(7)
    call = {"num_inference_steps": 2, "guidance_scale": 7.5, "width": SIDE, "height": SIDE}
    wanted = np.asarray(pipe(["a red circle"], generator=[seeded], **call).images[0])
    assert np.array_equal(drawn(without_t5, guidance=7.5), wanted)


def test_an_index_may_leave_the_t5_out(without_t5, tmp_path):
    shutil.copytree(without_t5, tmp_path / "model")
    index = json.loads((tmp_path / "model" / "model_index.json").read_text())
    few = {name: value for name, value in index.items() if name not in ("text_encoder_3", "tokenizer_3")}
    (tmp_path / "model" / "model_index.json").write_text(json.dumps(few))

    assert checked(tmp_path, tmp_path / "model") == []
    assert np.array_equal(drawn(tmp_path / "model"), drawn(without_t5))


def test_an_editor_and_a_renoiser_without_t5_work(tiny, tmp_path, without_t5):
    folder = emptied(
        tiny("editors", "ultra-edit"), tmp_path / "edit", "text_encoder_3", "tokenizer_3", kept=True
    )
    picture = Image.new("RGB", (SIDE, SIDE), (200, 30, 30))
    editor = registry.load("editors", "ultra-edit")(Weights(str(folder)), steps=2)
    editor.setup()
    request = EditRequest(picture, "make it blue", 3)
    (found,) = editor.edit([request], guidance=7.5, image_guidance=1.5)
    assert found.size == (SIDE, SIDE)

    renoiser = registry.load("renoisers", "diffusers")(Weights(without_t5), steps=2, guidance=3.0)
    renoiser.setup()
    own = picture.resize((16, 16))
    (found,) = renoiser.renoise([own], ["a red circle"], [3], strength=0.5)
    assert found.size == (16, 16)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("diffusers", ["safety_checker", "feature_extractor", "image_encoder"]),
        ("sdxl", ["image_encoder", "feature_extractor"]),
        ("sd3", ["image_encoder", "feature_extractor"]),
        ("flux", ["image_encoder", "feature_extractor"]),
    ],
)
def test_null_parts_that_draw_nothing_change_no_picture(tiny, tmp_path, name, parts):
    model = emptied(tiny("generators", name), tmp_path / "model", *parts)

    assert checked(tmp_path, model) == []
    assert np.array_equal(drawn(model, name), drawn(tiny("generators", name), name))


def test_sdxl_without_its_first_text_encoder_draws_as_its_refiner_does(tiny, tmp_path):
    """The refiner's UNet reads the second encoder's tokens only; here half as wide."""
    base = DiffusionPipeline.from_pretrained(tiny("generators", "sdxl"))
    base.unet = tiny_editors.widened(base.unet, 4, cross_attention_dim=16)
    base.register_modules(text_encoder=None, tokenizer=None)
    base.save_pretrained(tmp_path / "model")

    assert checked(tmp_path, tmp_path / "model") == []
    assert drawn(tmp_path / "model", "sdxl").shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize(
    ("name", "parts", "said"),
    [
        ("sdxl", ["text_encoder_2", "tokenizer_2"], "no text_encoder_2, tokenizer_2"),
        ("sdxl", ["tokenizer"], "no tokenizer"),
        ("diffusers", ["vae"], "no vae"),
        ("diffusers", ["text_encoder", "tokenizer"], "no text_encoder, tokenizer"),
        ("sd3", ["transformer"], "no transformer"),
        ("sd3", ["tokenizer_3"], "no tokenizer_3"),
        ("sd3", ["text_encoder", "tokenizer"], "no text_encoder, tokenizer"),
        ("flux", ["text_encoder_2"], "no text_encoder_2"),
    ],
)
def test_a_null_part_without_which_nothing_is_drawn_is_refused_by_name(tiny, tmp_path, name, parts, said):
    model = emptied(tiny("generators", name), tmp_path / "model", *parts)

    with pytest.raises(UsageError, match=f"says that it has {said}, without which it draws nothing"):
        checked(tmp_path, model)


def test_a_hub_id_that_nobody_checked_is_refused_when_it_is_loaded(tiny, tmp_path):
    model = emptied(tiny("generators", "sdxl"), tmp_path / "model", "text_encoder_2", "tokenizer_2")
    with pytest.raises(RpoError, match="no text_encoder_2, tokenizer_2"):
        load_pipeline(Weights(str(model)))


def test_a_null_unet_is_no_matter_where_a_tuned_one_is_given(tiny, tmp_path):
    plain = Path(tiny("generators", "diffusers"))
    model = emptied(plain, tmp_path / "model", "unet")

    assert checked(tmp_path, model, **{"generate.denoiser": str(plain / "unet")}) == []
    assert np.array_equal(drawn(model, denoiser=str(plain / "unet")), drawn(plain))


@pytest.mark.parametrize("extractor", ["null", "absent"])
def test_a_safety_checker_that_cannot_see_is_left_out_and_said(tiny, tmp_path, extractor):
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    plain = Path(tiny("generators", "diffusers"))
    pipe = DiffusionPipeline.from_pretrained(plain)
    narrow = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    vision = {**narrow, "image_size": 32, "patch_size": 16, "projection_dim": 8}
    config = CLIPConfig(vision_config=vision, text_config=narrow, projection_dim=8)
    pipe.register_modules(
        safety_checker=StableDiffusionSafetyChecker(config), feature_extractor=CLIPImageProcessorPil()
    )
    pipe.save_pretrained(tmp_path / "whole")
    model = emptied(tmp_path / "whole", tmp_path / "model", "feature_extractor")
    if extractor == "absent":
        shutil.copy(tmp_path / "whole" / "model_index.json", model / "model_index.json")

    assert "cannot see without a feature extractor" in checked(tmp_path, model)[-1]
    assert np.array_equal(drawn(model), drawn(plain))


def test_needed_parts_by_hand():
    there = object()
    refiner = {"text_encoder": None, "tokenizer": None, "text_encoder_2": there, "tokenizer_2": there}
    assert needed("StableDiffusionXLImg2ImgPipeline", refiner) == ()
    assert needed("StableDiffusionPipeline", refiner) == ("text_encoder", "tokenizer")
    assert needed("StableDiffusion3Pipeline", {"text_encoder_3": None, "tokenizer_3": there}) == ()
    assert needed("StableDiffusion3Pipeline", {"text_encoder_3": there, "tokenizer_3": None}) == (
        "tokenizer_3",
    )
    assert needed("Other", {"image_encoder": None, "controlnet": None, "prior": None}) == ()


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["unet/model.safetensors"], []),
        (["unet/model.safetensors", "unet/model.bin"], []),
        (["unet/model.bin", "vae/model.safetensors"], ["unet/model.bin"]),
        (["sd.ckpt", "unet/model.safetensors"], ["sd.ckpt"]),
        (["config.json"], []),
    ],
)
@pytest.mark.parametrize(
    ("error", "else_said"),
    [(OSError("no file"), "the weights of every part"), (ValueError("expected"), "see `rpo doctor`")],
)
def test_pickles_are_told_where_there_are_some_without_safetensors(
    tmp_path, files, found, error, else_said
):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")

    assert pickled(str(tmp_path)) == found
    with pytest.raises(RpoError) as caught, loading(str(tmp_path), "a pipeline", "model_index.json"):
        raise error
    assert ("rpo convert" in caught.value.hint) == bool(found)
    assert (found[0] if found else else_said) in caught.value.hint

"""Models as they are published elsewhere draw their plain folder's pictures, or say what is missing."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from rpo_cli import open_line, registry
from rpo_cli.backends.loading import load_model, load_pipeline
from rpo_cli.backends.tensors import tensors
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.exchange.convert import convert
from rpo_cli.identity import identify
from rpo_cli.line.model_facts import facts_of
from rpo_cli.line.work import model_checks, models
from rpo_cli.protocols import EditRequest, Silent, Weights
from rpo_cli.recipes import recipe
from rpo_cli.shapes.manifest import MODELS
from rpo_cli.single_file import EDM, FIRST_LAYER, single_file
from rpo_cli.train.families.family import open_family
from tests import original_layout
from tests.shapes.test_shipped_critic import REWARD

SIDE = 32


class Listening(Silent):
    def __init__(self):
        self.heard = []

    def note(self, text):
        self.heard.append(text)


def drawn(model, name="diffusers", **options):
    backend = registry.load("generators", name)(
        Weights(str(model)), steps=2, width=SIDE, height=SIDE, **options
    )
    backend.setup()
    return np.asarray(backend.generate(["a red circle"], [7])[0])


def edited(model, name="instruct-pix2pix", **options):
    how = recipe("editors", name)
    backend = registry.load("editors", name)(Weights(str(model)), steps=2, **how.options, **options)
    backend.setup()
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    request = EditRequest(Image.fromarray(picture), "make it blue", 3)
    return np.asarray(backend.edit([request], guidance=7.5, image_guidance=1.5)[0])


def same_weights(found, wanted):
    ours, theirs = found.state_dict(), wanted.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def of_variant(folder, out, *parts, keep=()):
    """A copy whose weights of `parts` (none: all) are called fp16's; those in `keep` have both, unlike."""
    shutil.copytree(folder, out)
    for path in out.rglob("*.safetensors"):
        if path.parent.name in keep:
            spoilt = {name: torch.zeros_like(value) for name, value in load_file(path).items()}
            save_file(spoilt, path.with_name(f"{path.stem}.fp16.safetensors"), {"format": "pt"})
        elif not parts or path.parent.name in parts:
            path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    return out


def names_absent(folder, out, **parts):
    """A copy whose index names parts that the folder has not."""
    shutil.copytree(folder, out)
    index = json.loads((out / "model_index.json").read_text())
    (out / "model_index.json").write_text(json.dumps({**index, **parts}))
    return out


def checked(tmp_path, model, *, step="generate"):
    """What the door says of a generator or editor."""
    ear = Listening()
    key = {"generate": "generate.generator", "edit": "edit.editor"}[step]
    line = open_line(tmp_path / "run", {key: str(model), "run.mix": True}, observer=ear)
    {"generate": model_checks.check_generator, "edit": model_checks.check_editor}[step](line)
    return ear.heard


@pytest.fixture
def plain(tiny):
    return Path(tiny("generators", "diffusers"))


@pytest.mark.parametrize("parts", [(), ("unet",), ("vae", "text_encoder")])
def test_a_pipeline_of_a_variant_draws_and_trains_as_the_plain_one_and_says_so(plain, tmp_path, parts):
    half = of_variant(plain, tmp_path / "half", *parts)

    assert np.array_equal(drawn(half), drawn(plain))
    (said,) = checked(tmp_path, half)
    assert "variant fp16" in said
    ours, theirs = open_family(str(half)), open_family(str(plain))
    assert same_weights(ours.load_denoiser(), theirs.load_denoiser())
    pair = [family.load_encoders("cpu").encode_prompts(["a"])["hidden"] for family in (ours, theirs)]
    assert torch.equal(*pair)


def test_a_part_with_both_keeps_its_plain_weights_beside_one_of_a_variant(plain, tmp_path):
    mixed = of_variant(plain, tmp_path / "mixed", "vae", keep=("unet", "text_encoder"))

    assert np.array_equal(drawn(mixed), drawn(plain))
    assert np.array_equal(drawn(of_variant(plain, tmp_path / "both", "none", keep=("unet",))), drawn(plain))


def test_an_editor_and_a_model_of_transformers_are_read_from_a_variant(tiny, tmp_path):
    editor = Path(tiny("editors", "instruct-pix2pix"))
    assert np.array_equal(edited(of_variant(editor, tmp_path / "e")), edited(editor))

    from transformers import CLIPModel, CLIPTokenizerFast

    shutil.copytree(REWARD, tmp_path / "reward")
    (weights,) = (tmp_path / "reward").glob("*.safetensors")
    weights.rename(weights.with_name("model.fp16.safetensors"))
    weights = Weights(str(tmp_path / "reward"))
    _, found = load_model(weights, "a CLIP", CLIPModel, CLIPTokenizerFast, whole=True)
    wanted = CLIPModel.from_pretrained(REWARD).state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in found.state_dict().items())
    assert tensors(str(tmp_path / "reward"), None, "logit_scale").keys() == {"logit_scale"}


@pytest.mark.parametrize(
    "absent",
    [
        {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]},
        {"feature_extractor": ["transformers", "CLIPImageProcessor"]},
        {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        },
    ],
)
def test_a_pipeline_without_its_safety_checker_draws_and_says_it_once(plain, tmp_path, absent):
    model = names_absent(plain, tmp_path / "model", **absent)

    assert np.array_equal(drawn(model), drawn(plain))
    (said,) = checked(tmp_path, model)
    assert all(name in said for name in absent)
    open_family(str(model)).load_encoders("cpu")


@pytest.mark.parametrize("part", ["vae", "tokenizer", "unet"])
def test_another_absent_part_is_refused_by_name(plain, tmp_path, part):
    model = tmp_path / "model"
    shutil.copytree(plain, model)
    shutil.rmtree(model / part)
    with pytest.raises(UsageError, match=rf"names {part}, and the folder has none"):
        checked(tmp_path, model)


@pytest.fixture
def single(plain, tmp_path):
    """Stable Diffusion in one file, configured by the folder of its name."""
    pipe = DiffusionPipeline.from_pretrained(plain)
    file = original_layout.write(pipe, tmp_path / "one" / "sd.v1.safetensors")
    original_layout.configure(plain, tmp_path / "one" / "sd.v1")
    return file


def test_one_file_draws_the_pictures_of_its_folder(plain, single, tmp_path):
    assert np.array_equal(drawn(single), drawn(plain))
    assert checked(tmp_path, single) == [f"{single}: a single file, configured as {single.with_suffix('')}"]


def test_one_file_trains_as_its_folder(plain, single):
    ours, theirs = open_family(str(single)), open_family(str(plain))
    ours.check()

    assert (ours.latent_size(), ours.grain()) == (theirs.latent_size(), theirs.grain())
    assert same_weights(ours.load_denoiser(), theirs.load_denoiser())
    both = [family.load_encoders("cpu") for family in (ours, theirs)]
    assert torch.equal(*(made.encode_prompts(["a b"])["hidden"] for made in both))
    assert same_weights(both[0].vae, both[1].vae)


def test_one_file_is_known_by_its_content_and_its_configuration(single, tmp_path):
    cache = tmp_path / "hashes.sqlite"
    before = identify(str(single), cache=cache)
    assert (before.kind, len(before.revision), before.commit) == ("file", 64, None)

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(single.parent, elsewhere)
    assert identify(str(elsewhere / single.name), cache=cache).revision == before.revision
    config = elsewhere / "sd.v1" / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace("0.012", "0.013").replace("0.02", "0.03"))
    assert identify(str(elsewhere / single.name), cache=cache).revision != before.revision
    held = load_file(single)
    held[FIRST_LAYER] += 1
    save_file(held, single)
    assert identify(str(single), cache=cache).revision != before.revision


def test_a_plan_knows_what_one_file_weighs(single):
    found = facts_of("generate.generator", identify(str(single)), "float16")

    assert (found.here, found.bytes) == (True, single.stat().st_size)
    assert found.memory == 2 * sum(value.numel() for value in load_file(single).values())


def test_an_editor_in_one_file_edits_as_its_folder_though_the_configuration_is_its_bases(
    tiny, plain, tmp_path
):
    editor = Path(tiny("editors", "instruct-pix2pix"))
    file = original_layout.write(DiffusionPipeline.from_pretrained(editor), tmp_path / "edit.safetensors")
    original_layout.configure(plain, tmp_path / "edit")

    assert single_file(str(file)).index["_class_name"] == "StableDiffusionInstructPix2PixPipeline"
    assert np.array_equal(edited(file), edited(editor))
    checked(tmp_path, file, step="edit")
    drawer = original_layout.write(DiffusionPipeline.from_pretrained(plain), tmp_path / "d.safetensors")
    original_layout.configure(plain, tmp_path / "d")
    with pytest.raises(UsageError, match="draws pictures and edits none"):
        checked(tmp_path, drawer, step="edit")


def test_one_file_takes_a_controlnet_and_a_tuned_denoiser_beside_it(tiny, plain, single, tmp_path):
    folder = Path(tiny("editors", "controlnet"))
    base = DiffusionPipeline.from_pretrained(folder)
    file = original_layout.write(base, tmp_path / "base.safetensors")
    original_layout.configure(plain, tmp_path / "base")
    steered = [edited(ref, "controlnet", controlnet=str(folder / "controlnet")) for ref in (file, folder)]
    assert np.array_equal(*steered)

    other = DiffusionPipeline.from_pretrained(plain).unet
    with torch.no_grad():
        other.conv_out.weight.mul_(1.5)
    other.save_pretrained(tmp_path / "unet")
    tuned = [drawn(model, denoiser=str(tmp_path / "unet")) for model in (single, plain)]
    assert np.array_equal(*tuned)
    assert not np.array_equal(tuned[0], drawn(plain))


def test_cosxl_is_known_by_its_noise_levels(tiny, tmp_path):
    """By the names in its header alone: an SDXL of eight channels that says its EDM noise levels."""
    xl = Path(tiny("generators", "sdxl"))
    held = {
        FIRST_LAYER: torch.zeros(8, 8, 3, 3),
        **{f"{part}.x": torch.zeros(1) for part in ("first_stage_model", "conditioner.embedders.0")},
        "conditioner.embedders.1.x": torch.zeros(1),
    }
    for name, also, backend in (
        ("a", {}, "sdxl-instruct-pix2pix"),
        ("b", {EDM: torch.ones(1)}, "cosxl-edit"),
    ):
        save_file({**held, **also}, tmp_path / f"{name}.safetensors")
        original_layout.configure(xl, tmp_path / name)
        line = open_line(tmp_path / f"run-{name}", {"edit.editor": str(tmp_path / f"{name}.safetensors")})
        assert models.editor(line).name == backend


def test_a_folder_made_of_one_file_draws_the_same_pictures(plain, single, tmp_path):
    alone = shutil.copy(single, tmp_path / "alone.safetensors")
    convert(Path(alone), tmp_path / "made", config=plain)

    assert np.array_equal(drawn(tmp_path / "made"), drawn(plain))
    assert same_weights(*(open_family(str(each)).load_denoiser() for each in (tmp_path / "made", plain)))


@pytest.mark.parametrize(
    ("first", "shape", "kind"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", (320, 4, 3, 3), "stable-diffusion-v1-5"),
        ("model.diffusion_model.input_blocks.0.0.weight", (320, 8, 3, 3), "timbrooks/instruct-pix2pix"),
        ("conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias", (8,), "xl-base-1.0"),
        ("model.diffusion_model.joint_blocks.37.x_block.mlp.fc1.weight", (8, 8), "3.5-large"),
        ("model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale", (8,), "FLUX.1-schnell"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", (8,), "FLUX.1-schnell"),
    ],
)
def test_without_a_network_the_error_tells_the_kind_and_the_line_that_configures_it(
    tmp_path, first, shape, kind
):
    held = {"model.diffusion_model.input_blocks.1.0.x": torch.zeros(1), first: torch.zeros(shape)}
    if "double" in first or "joint" in first:
        held.pop("model.diffusion_model.input_blocks.1.0.x")
    save_file(held, tmp_path / "x.safetensors")
    with pytest.raises(UsageError) as caught:
        identify(str(tmp_path / "x.safetensors"))

    assert kind in caught.value.message
    assert "hf download" in caught.value.hint
    assert f"--local-dir {tmp_path / 'x'}" in caught.value.hint
    assert "rpo convert" in caught.value.hint


def test_a_denoiser_alone_names_the_parts_that_it_lacks(tiny, tmp_path):
    """FLUX as its makers hand it on: no VAE and no text encoders; a whole folder beside it has them."""
    flux = Path(tiny("generators", "flux"))
    save_file({"double_blocks.0.x": torch.zeros(1)}, tmp_path / "flux.safetensors")
    original_layout.configure(flux, tmp_path / "flux")
    with pytest.raises(UsageError, match="holds no vae, text_encoder, text_encoder_2"):
        single_file(str(tmp_path / "flux.safetensors"))

    save_file({"double_blocks.0.x": torch.zeros(1)}, tmp_path / "whole.safetensors")
    shutil.copytree(flux, tmp_path / "whole")
    assert single_file(str(tmp_path / "whole.safetensors")).index["_class_name"] == "FluxPipeline"


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ({"unet.a.lora_A.weight": torch.zeros(4, 8)}, "is a LoRA"),
        ({"model.layers.0.q.weight": torch.zeros(4, 8)}, "no checkpoint of a whole model"),
        ({}, "no checkpoint of a whole model"),
    ],
)
def test_other_files_are_no_generator(tmp_path, held, said):
    save_file(held, tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match=said):
        checked(tmp_path, tmp_path / "x.safetensors")


def test_a_file_that_does_not_fit_its_configuration_is_told(single, tmp_path):
    held = load_file(single)
    held[FIRST_LAYER] = torch.zeros(3, 4, 3, 3)
    save_file(held, single)
    with pytest.raises(RpoError, match="cannot be loaded"):
        load_pipeline(Weights(str(single)))
    with pytest.raises(UsageError, match="does not fit the configuration"):
        convert(single, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_the_embedded_generator_as_one_file_draws_its_pictures(tmp_path):
    folder = MODELS / "text-to-image"
    pipe = DiffusionPipeline.from_pretrained(folder)
    file = original_layout.write(pipe, tmp_path / "shapes.safetensors")
    original_layout.configure(folder, tmp_path / "shapes")

    assert np.array_equal(drawn(file), drawn(folder))

"""Every number of a recipe against what the installed diffusers documents; every name against its class."""

import inspect
import re

import diffusers
import pytest

from rpo_cli import registry
from rpo_cli.exchange.card import forbids_commerce, model_licence
from rpo_cli.recipes import RECIPES, recipe, serving

ALL = [(kind, name) for kind, table in RECIPES.items() for name in table]
# name → what its pipeline calls guidance
TRUE_CFG = {"qwen-image-edit", "qwen-image-edit-plus"}
SERVED = "openai"  # no pipeline of ours: a server's
OURS = {"ultra-edit"}  # the loop is ours: its class is in no release of diffusers


def called(pipeline):
    return inspect.signature(getattr(diffusers, pipeline).__call__).parameters


def example(pipeline):
    """Keyword → number in the class's own documented example."""
    module = inspect.getmodule(getattr(diffusers, pipeline))
    text = getattr(module, "EXAMPLE_DOC_STRING", "")
    return {name: float(value) for name, value in re.findall(r"(\w+) ?= ?([\d.]+)\b", text)}


@pytest.mark.parametrize("kind", RECIPES)
def test_every_registered_name_has_a_recipe_and_none_is_left_over(kind):
    assert set(RECIPES[kind]) == set(registry.KINDS[kind])


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_a_pipeline_takes_what_its_recipe_gives_it(kind, name):
    how = recipe(kind, name)
    guidance = "true_cfg_scale" if name in TRUE_CFG else "guidance_scale"
    wanted = {"prompt", "num_inference_steps", "generator", *how.options.get("call", {})}
    wanted |= {guidance} if how.guidance is not None else set()
    wanted |= {"image_guidance_scale"} if how.image_guidance is not None else set()
    wanted |= {"image"} if kind == "editors" else set()
    wanted |= {"negative_prompt"} & set(how.takes)
    wanted |= {"strength"} & set(how.takes)
    wanted |= {"controlnet_conditioning_scale"} if "control_scale" in how.takes else set()
    wanted |= {"timesteps", "latents"} if name == "one-step" else set()
    assert how.pipelines or name == SERVED
    for pipeline in how.pipelines:
        assert hasattr(diffusers, pipeline) == (name not in OURS)
        assert name in OURS or wanted <= set(called(pipeline)), pipeline


def test_image_guidance_is_taken_exactly_where_the_pipeline_takes_it():
    editors = {name: how for name, how in RECIPES["editors"].items() if how.pipelines}
    for how in (how for name, how in editors.items() if name not in OURS):
        takes = all("image_guidance_scale" in called(pipeline) for pipeline in how.pipelines)
        assert takes == (how.image_guidance is not None)


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_what_is_said_to_be_the_pipelines_default_is(kind, name):
    how = recipe(kind, name)
    if not how.pipelines or f"defaults of {how.pipelines[0]}.__call__" not in how.source:
        return
    defaults = called(how.pipelines[0])
    guidance = "true_cfg_scale" if name in TRUE_CFG else "guidance_scale"
    assert how.steps == defaults["num_inference_steps"].default
    assert how.guidance == defaults[guidance].default


@pytest.mark.parametrize(
    ("kind", "name", "steps", "guidance", "image_guidance"),
    [
        ("editors", "sdxl-instruct-pix2pix", True, True, True),
        ("editors", "flux2-klein-base", True, True, False),
        ("editors", "flux2", True, True, False),
        ("generators", "flux2", True, True, False),
        ("editors", "flux-kontext", False, True, False),
        ("editors", "qwen-image-edit", True, False, False),
        ("editors", "qwen-image-edit-plus", True, False, False),
        ("generators", "flux2-klein-base", True, True, False),
        ("generators", "lcm", True, True, False),
    ],
)
def test_what_is_said_to_be_the_documented_example_is(kind, name, steps, guidance, image_guidance):
    how, said = recipe(kind, name), example(recipe(kind, name).pipelines[0])
    assert "example" in how.source
    if steps:
        assert how.steps == said["num_inference_steps"]
    if guidance:
        assert how.guidance == said["guidance_scale"]
    if image_guidance:
        assert how.image_guidance == said["image_guidance_scale"]


def test_schnell_is_called_as_its_example_says():
    how, said = recipe("generators", "flux-schnell"), example("FluxPipeline")
    assert how.steps == said["num_inference_steps"]
    assert how.options["call"]["guidance_scale"] == said["guidance_scale"]


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_every_recipe_names_where_its_numbers_are_from(kind, name):
    assert recipe(kind, name).source


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_models_that_forbid_commerce_are_refused_by_their_hub_id_too(kind, name):
    for model in recipe(kind, name).models:
        assert forbids_commerce(model.license) == forbids_commerce(model_licence(model.ref)), model.ref


@pytest.mark.parametrize(
    ("kind", "index", "name"),
    [
        ("editors", {"_class_name": "StableDiffusionInstructPix2PixPipeline"}, "instruct-pix2pix"),
        ("editors", {"_class_name": "StableDiffusionXLInstructPix2PixPipeline"}, "sdxl-instruct-pix2pix"),
        (
            "editors",
            {
                "_class_name": "StableDiffusionXLInstructPix2PixPipeline",
                "scheduler": ["diffusers", "EDMEulerScheduler"],
            },
            "cosxl-edit",
        ),
        ("editors", {"_class_name": "Flux2KleinPipeline", "is_distilled": True}, "flux2-klein"),
        ("editors", {"_class_name": "Flux2KleinPipeline", "is_distilled": False}, "flux2-klein-base"),
        ("editors", {"_class_name": "Flux2KleinPipeline"}, "flux2-klein-base"),
        ("editors", {"_class_name": "StableDiffusionPipeline"}, None),
        ("editors", {}, None),
        ("generators", {"_class_name": "StableDiffusionPipeline"}, "diffusers"),
        ("generators", {"_class_name": "StableDiffusionXLPipeline"}, "sdxl"),
        ("generators", {"_class_name": "FluxPipeline", "denoiser": {"guidance_embeds": True}}, "flux"),
        (
            "generators",
            {"_class_name": "FluxPipeline", "denoiser": {"guidance_embeds": False}},
            "flux-schnell",
        ),
        ("generators", {"_class_name": "AllegroPipeline"}, None),
    ],
)
def test_a_folders_own_files_choose_the_name(kind, index, name):
    assert serving(kind, index, "some/folder") == name


def test_a_known_hub_id_chooses_the_name_of_the_class_it_has():
    turbo = "stabilityai/SDXL-Turbo"
    assert serving("generators", {"_class_name": "StableDiffusionXLPipeline"}, turbo) == "turbo"
    assert serving("generators", {"_class_name": "FluxPipeline"}, turbo) == "flux"

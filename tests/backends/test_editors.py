"""What every editor must hold, on a tiny random model of its class."""

from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from rpo_cli import registry
from rpo_cli.errors import MissingDependency, RpoError
from rpo_cli.protocols import EditRequest, Weights
from rpo_cli.recipes import recipe
from tests.tiny_editors import EDITORS

NAMES = sorted(EDITORS)
AREA = 32 * 32


def picture(seed, size=(32, 32)):
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.fixture(scope="module")
def editor(tiny):
    """A loaded editor by its name; loaded once."""
    found = {}

    def call(name):
        if name not in found:
            how = recipe("editors", name)
            options = {**how.options, **({"area": AREA} if "area" in how.takes else {})}
            steps = 1 if "flux" in name else 2
            found[name] = registry.load("editors", name)(
                Weights(tiny("editors", name)), steps=steps, **options
            )
            found[name].setup()
        return found[name]

    return call


def edited(editor, name, requests, **other):
    how = recipe("editors", name)
    numbers = {"guidance": how.guidance, "image_guidance": how.image_guidance} | other
    return [np.asarray(found) for found in editor(name).edit(requests, **numbers)]


def test_every_editor_is_proven_here_or_says_what_it_needs():
    for name in registry.editors:
        if name == "openai":
            continue  # test_http_editor.py
        needs = recipe("editors", name).needs
        assert (name in EDITORS) != bool(needs), name


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_does_not_depend_on_its_place_or_its_neighbours(editor, name):
    rows = [
        EditRequest(picture(1), "make it red", 1),
        EditRequest(picture(2), "a blue circle and more of it", 2),
    ]
    together = edited(editor, name, rows)
    turned = edited(editor, name, rows[::-1])
    alike = edited(editor, name, [rows[0], rows[0]])

    assert np.array_equal(together[0], alike[0])  # another neighbour
    # another place: a CPU's matrix product of all tokens of a batch rounds its last rows differently
    assert np.abs(together[0].astype(int) - turned[1]).max() <= 1
    assert np.abs(together[1].astype(int) - turned[0]).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_edit_follows_from_picture_instruction_and_seed(editor, name):
    """Two rows of a batch that differ in one of the three alone."""
    row = EditRequest(picture(1), "make it red", 1)
    others = [
        EditRequest(picture(2), "make it red", 1),
        EditRequest(picture(1), "a blue circle", 1),
        EditRequest(picture(1), "make it red", 2),
    ]
    found, *changed = edited(editor, name, [row, *others])
    for other in changed:
        assert not np.array_equal(found, other)


@pytest.mark.parametrize("name", NAMES)
def test_an_edit_has_its_pictures_size_whatever_the_model_works_at(editor, name):
    (found,) = editor(name).edit(
        [EditRequest(picture(1, (45, 33)), "make it red", 1)],
        guidance=recipe("editors", name).guidance,
        image_guidance=recipe("editors", name).image_guidance,
    )
    assert (found.size, found.mode) == ((45, 33), "RGB")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if recipe("editors", name).guidance is not None])
def test_guidance_has_an_effect_where_it_is_taken(editor, name):
    rows = [EditRequest(picture(1), "make it red", 1)]
    assert not np.array_equal(
        edited(editor, name, rows, guidance=2.0), edited(editor, name, rows, guidance=6.0)
    )


def test_cosxl_is_the_same_folder_under_another_flag(tiny):
    """What its files do not say, its name does: the picture's latents are scaled."""
    rows = [EditRequest(picture(1), "make it red", 1)]
    folder = tiny("editors", "cosxl-edit")
    found = []
    for cosxl in (False, True):
        editor = registry.load("editors", "cosxl-edit")(Weights(folder), steps=1, cosxl=cosxl)
        editor.setup()
        found.append(np.asarray(editor.edit(rows, guidance=3.0, image_guidance=1.5)[0]))
    assert not np.array_equal(*found)


def test_a_controlnet_from_a_folder_of_its_own_is_put_beside_the_base(tiny):
    """The same parts in two folders make the same picture as one folder that holds them all."""
    whole, base = tiny("editors", "controlnet"), tiny("generators", "diffusers")
    rows = [EditRequest(picture(1), "make it red", 1)]
    found = []
    for model, options in ((whole, {}), (base, {"controlnet": f"{whole}/controlnet"})):
        editor = registry.load("editors", "controlnet")(Weights(model), steps=1, **options)
        editor.setup()
        found.append(np.asarray(editor.edit(rows, guidance=7.5, image_guidance=None)[0]))
    assert np.array_equal(*found)


def test_strength_changes_the_edit(tiny):
    edits = []
    for strength in (0.34, 1.0):
        editor = registry.load("editors", "controlnet-img2img")(
            Weights(tiny("editors", "controlnet-img2img")), steps=3, strength=strength, control_scale=0.0
        )
        editor.setup()
        rows = [EditRequest(picture(1), "make it red", 1)]
        edit = np.asarray(editor.edit(rows, guidance=1.0, image_guidance=None)[0], dtype=float)
        edits.append(edit)
    assert not np.array_equal(*edits)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_that_is_none_is_told_in_two_lines(name, tmp_path):
    with pytest.raises(RpoError, match="cannot be loaded") as caught:
        registry.load("editors", name)(Weights(str(tmp_path)), **recipe("editors", name).options).setup()
    assert "\n" not in caught.value.message


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is here")
def test_a_processor_that_needs_torchvision_is_told_as_missing(tmp_path):
    """`from_pretrained` of a Qwen-Image-Edit folder names the package, and the error is of that kind."""
    from rpo_cli.backends.loading import loading

    with pytest.raises(MissingDependency) as caught, loading("folder", "a pipeline", "model_index.json"):
        raise ImportError("Qwen2VLVideoProcessor requires the Torchvision library")
    told = caught.value
    assert "torchvision" in told.message

"""Pictures half way back to noise, with the embedded text-to-image model."""

import numpy as np
import pytest
from PIL import Image

from rpo_cli.backends.generator import DiffusersRenoiser
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Weights
from rpo_cli.shapes.preset import MODELS

PROMPTS = ["a large red circle on a white background", "a small blue square on a black background"]


def picture(shade: int) -> Image.Image:
    array = np.full((64, 64, 3), shade, dtype=np.uint8)
    array[16:48, 16:48] = (200, 30, 30)
    return Image.fromarray(array)


@pytest.fixture(scope="module")
def renoiser() -> DiffusersRenoiser:
    found = DiffusersRenoiser(Weights(str(MODELS / "text-to-image")), steps=4, guidance=1.1)
    found.setup()
    return found


def distance(a: Image.Image | None, b: Image.Image) -> float:
    assert a is not None
    return float(np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean())


@pytest.mark.slow
def test_more_noise_leaves_less_of_the_picture(renoiser: DiffusersRenoiser) -> None:
    source = picture(240)
    far = [
        distance(renoiser.renoise([source], PROMPTS[:1], [3], strength=strength)[0], source)
        for strength in (0.25, 1.0)
    ]
    assert far[0] < far[1] / 2


@pytest.mark.slow
def test_a_row_depends_on_its_seed_and_not_on_its_place(renoiser: DiffusersRenoiser) -> None:
    sources, seeds = [picture(240), picture(10)], [3, 4]
    first = renoiser.renoise(sources, PROMPTS, seeds, strength=0.5)
    turned = renoiser.renoise(sources[::-1], PROMPTS[::-1], seeds[::-1], strength=0.5)
    for one, two in zip(first, turned[::-1], strict=True):
        assert one is not None
        assert two is not None
        assert np.abs(np.asarray(one, int) - np.asarray(two, int)).max() <= 1  # of another place
    other = renoiser.renoise(sources, PROMPTS, [5, 4], strength=0.5)
    assert first[0] is not None
    assert other[0] is not None
    assert first[0].tobytes() != other[0].tobytes()


@pytest.mark.slow
def test_a_strength_below_one_step_takes_one(renoiser: DiffusersRenoiser) -> None:
    (found,) = renoiser.renoise([picture(240)], PROMPTS[:1], [3], strength=0.01)
    assert found is not None
    assert found.size == (64, 64)


@pytest.mark.slow
def test_a_model_without_an_image_to_image_form_is_told() -> None:
    """An editor has one already, of another kind."""
    with pytest.raises(RpoError, match="diffusers has no image-to-image form"):
        DiffusersRenoiser(Weights(str(MODELS / "editor"))).setup()

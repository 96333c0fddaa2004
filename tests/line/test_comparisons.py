"""What is measured of two pictures: values by hand, and what the eye forgives."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from rpo_cli.line.dataset.comparisons import measure
from rpo_cli.pictures import decode, encode_png, mean_absolute_difference, perceptual_hash, to_array
from rpo_cli.stages.candidates import Difference


def scene(seed=0, side=64):
    """A smooth random picture."""
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    smooth = gaussian_filter(noise, (side / 10, side / 10, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (smooth * 255).astype(np.uint8)


def distance(a, b):
    return (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()


def test_change_is_the_mean_over_pixels_and_channels():
    black, half = np.zeros((2, 2, 3), dtype=np.uint8), np.zeros((2, 2, 3), dtype=np.uint8)
    half[0, 0] = 255  # one pixel of four goes from black to white
    assert mean_absolute_difference(black, half) == mean_absolute_difference(half, black) == 0.25
    assert mean_absolute_difference(black, np.full_like(black, 255)) == 1.0
    assert mean_absolute_difference(half, half) == 0.0


def test_unequal_sizes_are_compared_at_the_first_ones_size():
    red = np.broadcast_to(np.array([255, 0, 0], dtype=np.uint8), (8, 8, 3))
    assert mean_absolute_difference(red, np.repeat(red, 2, axis=1)) == 0.0


def test_the_hash_forgives_what_the_eye_forgives():
    picture = scene()
    larger = np.asarray(Image.fromarray(picture).resize((200, 200), Image.Resampling.BICUBIC))
    brighter = np.clip(picture.astype(int) + 12, 0, 255).astype(np.uint8)
    assert distance(picture, larger) <= 4
    assert distance(picture, brighter) <= 4


def test_different_pictures_are_about_half_the_bits_apart():
    distances = [distance(scene(seed), scene(seed + 100)) for seed in range(20)]
    assert 24 <= np.mean(distances) <= 40
    assert min(distances) >= 10


def test_a_flat_picture_has_only_its_constant_term():
    """Every other coefficient is 0, the median too: one bit is set, the highest; black has none."""
    assert perceptual_hash(np.full((64, 64, 3), 200, dtype=np.uint8)) == 1 << 63
    assert perceptual_hash(np.zeros((64, 64, 3), dtype=np.uint8)) == 0


def test_a_mirrored_gradient_flips_the_odd_frequencies():
    """A rise to the right has one sign in every odd column frequency; its mirror has the other."""
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (64, 1, 3))
    first, second = perceptual_hash(ramp), perceptual_hash(ramp[:, ::-1])
    assert first != second
    assert first >> 63 == second >> 63 == 1  # the constant term is the same


def test_an_unreadable_side_gives_no_value_and_does_not_stop_the_rest():
    a, b = encode_png(Image.fromarray(scene(1))), encode_png(Image.fromarray(scene(2)))
    shelf = {"a": a, "b": b, "broken": b"\x89PNG"}
    found = list(measure([("a", "broken"), ("a", "b"), ("b", "b")], shelf))
    assert found[0] is None
    assert found[1] == Difference(
        mean_absolute_difference(to_array(decode(a)), to_array(decode(b))), distance(scene(1), scene(2))
    )
    assert found[2] == Difference(0.0, 0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (3, 500, 3)])
def test_odd_shapes_have_a_hash(shape):
    assert 0 <= perceptual_hash(np.zeros(shape, dtype=np.uint8)) < 1 << 64

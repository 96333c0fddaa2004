"""The probe finds a shortcut that is there and none that is not."""

import numpy as np
import pytest
from PIL import Image

from rpo_cli.metrics.labels import features, fitted, predicted, probe

RNG = np.random.default_rng(0)


def pictures(count, blurred):
    """Noise pictures; every second one blurred by a 2 x 2 mean, if asked for."""
    for number in range(count):
        pixels = RNG.integers(0, 256, (32, 32, 3))
        if blurred and number % 2:
            pixels = (
                pixels + np.roll(pixels, 1, 0) + np.roll(pixels, 1, 1) + np.roll(pixels, 1, (0, 1))
            ) // 4
        yield Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize(("blurred", "low", "high"), [(True, 0.95, 1.0), (False, 0.3, 0.7)])
def test_blur_gives_an_edit_away_and_nothing_gives_nothing_away(blurred, low, high):
    """Pictures in pairs of one prompt, every second one called edited."""
    table = np.stack([features(picture) for picture in pictures(120, blurred)])

    found = probe(table, [bool(n % 2) for n in range(120)], [f"prompt {n // 2}" for n in range(120)])

    assert low <= found["accuracy"]["value"] <= high
    assert (found["pictures"], found["chance"]) == (120, 0.5)


def test_a_prompt_is_never_learned_from_itself():
    """A feature that only names the prompt, and a label that only depends on it: nothing to learn."""
    prompts = [f"prompt {n // 2}" for n in range(80)]
    labels = np.array([hash(n // 2 * 7919) % 2 == 0 for n in range(80)])
    table = np.zeros((80, 40))
    table[np.arange(80), np.arange(80) // 2] = 1.0

    logits = predicted(table, labels, prompts)

    # a fold's own prompts are columns without variation in the others: all its logits are one number
    assert len(np.unique(logits.round(9))) <= 5
    assert ((logits > 0) == labels).mean() < 0.7


def test_too_few_pictures_say_nothing():
    table = np.zeros((38, 2))
    assert probe(table, [bool(n % 2) for n in range(38)], [str(n) for n in range(38)]) is None
    assert probe(np.zeros((80, 2)), [bool(n % 2) for n in range(80)], ["one prompt"] * 80) is None


def test_the_fit_is_where_the_penalised_slope_is_zero():
    table = RNG.normal(size=(50, 3))
    truth = table[:, 0] + RNG.normal(size=50) > 0

    weights = fitted(table, truth)

    rows = np.hstack([table, np.ones((50, 1))])
    slope = rows.T @ (1 / (1 + np.exp(-rows @ weights)) - truth) + np.array([1, 1, 1, 1e-6]) * weights
    assert np.abs(slope).max() < 1e-9


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (8, 8), (64, 48)])
def test_features_are_finite_at_every_size(size):
    found = features(Image.new("RGB", size, (10, 200, 30)))
    assert found.shape == (24,)
    assert np.isfinite(found).all()

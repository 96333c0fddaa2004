"""What labels are worth: agreement counted by hand, a probe that finds no shortcut but those there are."""

import numpy as np
import pytest
from PIL import Image

from rpo_cli.metrics.labels import (
    Labelled,
    agreement,
    beside,
    features,
    fitted,
    moves,
    noise_by_margin,
    predicted,
    preferred,
    probe,
    right_share,
)


def pair(prompt, value, margin=1.0, kind="edit", **moved):
    return Labelled(prompt, kind, margin, {"judge": value}, moved)


def test_agreement_counts_ties_apart_and_shares_what_is_decided():
    """Decided: 2 of 3; prompt p has 1 of 2, prompt q 1 of 1, so resamples give 1/2, 2/3 or 1."""
    pairs = [pair("p", 0.3), pair("p", -0.1), pair("q", 2.0), pair("q", 0.0, kind="seeds")]

    found = agreement(pairs)["judge"]

    assert {key: found["all"][key] for key in ("pairs", "agree", "tie", "disagree")} == {
        "pairs": 4,
        "agree": 2,
        "tie": 1,
        "disagree": 1,
    }
    assert found["all"]["share"] == pytest.approx({"value": 2 / 3, "low": 0.5, "high": 1.0})
    assert found["edit"]["pairs"] == 3
    assert found["seeds"]["share"] is None


def test_judges_are_compared_with_people_in_place_of_the_label():
    """People turn the second label around: the reward that follows the label is wrong there."""
    said = [(1.0, 2.0), (-1.0, 2.0), (0.0, 2.0), (-1.0, 0.0)]
    pairs = [Labelled("p", "edit", 1.0, {"people": one, "clip": clip}) for one, clip in said]
    pairs.append(Labelled("p", "edit", 1.0, {"clip": 1.0}))

    found = beside(pairs, "people")

    assert found.keys() == {"clip"}
    assert [found["clip"]["all"][key] for key in ("pairs", "agree", "tie", "disagree")] == [3, 1, 1, 1]
    assert beside(pairs, "nobody") == {}


def test_noise_is_the_share_turned_around_within_a_margin():
    """Margins [1, 1.5): one of two wrong; [3, inf): none of one; ties and no margin count nowhere."""
    pairs = [
        pair("p", 1, 1.0),
        pair("p", -1, 1.49),
        pair("q", 1, 7.0),
        pair("q", 0, 1.0),
        pair("q", -1, None),
    ]

    found = noise_by_margin(pairs)["judge"]

    assert [(row["from"], row["to"], row["pairs"], row["wrong"]["value"]) for row in found] == [
        (1.0, 1.5, 2, 0.5),
        (3.0, None, 1, 0.0),
    ]


def test_moves_are_quantiles_by_kind():
    pairs = [pair("p", 1, pixel=value / 100) for value in range(101)] + [pair("p", 1, kind="seeds")]

    found = moves(pairs)

    assert found.keys() == {"edit"}
    assert found["edit"]["pixel"]["0.25"] == pytest.approx(0.25)
    assert found["edit"]["pixel"]["0.95"] == pytest.approx(0.95)


def test_a_reward_judges_where_it_has_scored_both_sides():
    assert preferred({"a": 2.0, "b": 1.0, "c": float("nan")}, {"a": 0.5, "c": 1.0}) == {"a": 1.5}
    assert preferred(None, {"a": 1.0}) == {}


def test_a_measure_is_the_share_of_its_attributes():
    assert right_share({"colour": True, "shape": False, "size": True, "count": True}) == 0.75


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

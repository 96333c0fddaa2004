"""Agreement with labels, counted by hand."""

import pytest

from rpo_cli.metrics.labels import (
    Labelled,
    agreement,
    beside,
    moves,
    noise_by_margin,
    preferred,
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

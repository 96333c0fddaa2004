"""Figures of an evaluation and differences between settings, by tables small enough to count by hand."""

import numpy as np
import pytest

from rpo_cli.metrics.comparison import (
    NONE,
    UNKNOWN,
    Measured,
    against_base,
    differences,
    interval,
    of_models,
    seed_variance,
    strata,
    threshold,
    verdict,
    wins,
    with_right,
    worst_tenth,
)

NAN = float("nan")
BASE = Measured({"clip": np.array([[0.0, 2.0], [4.0, 6.0]])})


def test_a_win_a_tie_and_a_loss():
    assert wins(np.array([[2.0, 0.0, -1.0]])).tolist() == [[1.0, 0.5, 0.0]]


def test_means_differences_and_win_rates_of_two_prompts_of_two_pictures():
    """Tuned less base: 1, 0 | -1, 2. Prompt means 1/2 and 1/2; wins 3/4 and 1/2."""
    tuned = Measured({"clip": np.array([[1.0, 2.0], [3.0, 8.0]])})

    own, beside = (
        of_models([tuned], BASE)["rewards"]["clip"],
        against_base([tuned], BASE)["rewards"]["clip"],
    )

    assert own["mean"]["value"] == 3.5  # of 1.5 and 5.5
    assert (own["mean"]["low"], own["mean"]["high"]) == (1.5, 5.5)
    assert beside["difference"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert beside["win_rate"] == {"value": 0.625, "low": 0.5, "high": 0.75}


def test_spread_over_all_pictures_and_variance_over_start_seeds_are_told_apart():
    """0, 2 | 4, 6: variance 20/3 over all (n - 1), but 2 over the seeds of either prompt."""
    own = of_models([BASE], BASE)["rewards"]["clip"]

    assert own["sd"] == pytest.approx((20 / 3) ** 0.5)
    assert own["seed_variance"] == {"value": 2.0, "low": 2.0, "high": 2.0}
    assert seed_variance(np.array([[1.0], [2.0]])).tolist() == pytest.approx([NAN, NAN], nan_ok=True)


def test_failures_lie_below_the_tenth_part_of_the_base():
    """Of 0..10 the 10 % quantile is 1: one of eleven lies below it; of the tuned model two do."""
    base = np.arange(11.0)[:, None]
    tuned = np.array([0.5, 0.6, *range(2, 11)])[:, None]

    assert threshold(base) == 1.0
    assert worst_tenth(base) == 0.0  # one of eleven
    assert of_models([Measured({"r": base})], Measured({"r": base}))["rewards"]["r"]["failures"][
        "value"
    ] == (pytest.approx(1 / 11))
    gains = against_base([Measured({"r": tuned})], Measured({"r": base}))["rewards"]["r"]
    assert gains["failures"]["value"] == pytest.approx(1 / 11)


def test_the_tail_is_as_long_as_the_median_is_above_the_worst_tenth():
    scores = np.arange(20.0).reshape(10, 2)  # worst two: 0 and 1; median 9.5
    own = of_models([Measured({"r": scores})], Measured({"r": scores}))["rewards"]["r"]

    assert (own["worst_tenth"], own["tail"]) == (0.5, 9.0)


def test_a_rejected_picture_leaves_its_pair_out_and_no_other():
    """The pair that is left of the first prompt differs by 3, those of the second by 1."""
    tuned = Measured({"clip": np.array([[NAN, 5.0], [5.0, 7.0]])})

    assert against_base([tuned], BASE)["rewards"]["clip"]["difference"] == {
        "value": 2.0,
        "low": 1.0,
        "high": 3.0,
    }


def test_a_prompt_without_pictures_counts_nowhere():
    tuned = Measured({"clip": np.array([[NAN, NAN], [5.0, 7.0]])})

    assert against_base([tuned], BASE)["rewards"]["clip"]["difference"]["value"] == 1.0
    nothing = Measured({"clip": np.full((2, 2), NAN)})
    assert against_base([nothing], BASE)["rewards"]["clip"]["difference"] is None


def test_an_interval_is_over_the_prompts_that_every_model_has():
    """Of prompts 0, 1, 2 only the last has a number of both models: their mean, 3 and 5."""
    found = interval([np.array([1.0, np.nan, 3.0]), np.array([np.nan, 9.0, 5.0])])
    assert found == {"value": 4.0, "low": 3.0, "high": 5.0}
    assert interval([np.array([1.0, np.nan]), np.array([np.nan, 9.0])]) is None


def test_training_seeds_of_one_setting_are_drawn_with_the_prompts():
    """Gains of 0 and 1 on every picture: 0 or 1 or 1/2 by the seeds that are drawn."""
    same, better = BASE, Measured({"clip": BASE.scores["clip"] + 1})

    found = against_base([same, better], BASE)["rewards"]["clip"]["difference"]

    assert found == {"value": 0.5, "low": 0.0, "high": 1.0}


def test_fully_right_asks_for_every_attribute_that_the_prompt_names():
    readings = {
        "colour": np.array([[1.0, 1.0], [0.0, NAN]]),
        "relation": np.array([[NAN, NAN], [1.0, NAN]]),
    }

    found = with_right(readings)

    assert list(found) == ["right", "colour", "relation"]
    np.testing.assert_array_equal(found["right"], [[1.0, 1.0], [0.0, NAN]])


def test_strata_are_the_attributes_that_only_some_prompts_name():
    readings = with_right({"colour": np.ones((3, 1)), "relation": np.array([[NAN], [1.0], [0.0]])})

    found = {name: mask.tolist() for name, mask in strata(readings).items()}

    assert found == {"all": [True, True, True], "with relation": [False, True, True]}


def test_shares_of_a_measure_come_by_stratum_and_paired_with_the_base():
    """Right 1, 0, 1 of the base, 1, 1, 1 tuned; only the last two prompts name a relation."""
    readings = {"relation": np.array([[NAN], [0.0], [1.0]]), "colour": np.ones((3, 1))}
    base = Measured({}, with_right(readings))
    tuned = Measured({}, with_right({**readings, "relation": np.array([[NAN], [1.0], [1.0]])}))

    own, beside = of_models([base], base)["measured"], against_base([tuned], base)["measured"]

    assert own["all"]["attributes"]["right"]["value"] == pytest.approx(2 / 3)
    assert own["with relation"]["prompts"] == 2
    assert own["with relation"]["attributes"]["relation"]["value"] == 0.5
    assert beside["with relation"]["attributes"]["right"] == {"value": 0.5, "low": 0.0, "high": 1.0}
    assert beside["all"]["attributes"]["colour"] == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_diversity_and_drift_are_means_by_prompt():
    base = Measured({}, {}, {"pixel": np.array([0.2, 0.4])})
    tuned = Measured({}, {}, {"pixel": np.array([0.1, 0.3])}, {"pixel": np.array([[0.1, 0.3], [0.2, 0.2]])})

    beside = against_base([tuned], base)

    assert of_models([base], base)["diversity"]["pixel"]["value"] == pytest.approx(0.3)
    assert beside["diversity"]["pixel"]["value"] == pytest.approx(-0.1)
    assert beside["drift"]["pixel"]["value"] == pytest.approx(0.2)


def picture(model, prompt, index, clip=None, **right):
    return {
        "model": model,
        "prompt": prompt,
        "index": index,
        "scores": {} if clip is None else {"clip": clip},
        "right": right,
    }


def test_a_difference_over_two_prompts_counted_by_hand():
    """Prompt means of a: 1, 3; of b: 2, 6. b less a: 1 and 3, mean 2; drawn: 1, 2, 3 of 1/4, 1/2, 1/4."""
    rows = [
        *(picture("a", "one", index, clip) for index, clip in enumerate([0.0, 2.0])),
        *(picture("a", "two", index, clip) for index, clip in enumerate([3.0, 3.0])),
        *(picture("b", "one", index, clip) for index, clip in enumerate([1.0, 3.0])),
        *(picture("b", "two", index, clip) for index, clip in enumerate([5.0, 7.0])),
    ]

    (found,) = differences(rows, {"first": ["a"], "second": ["b"]})

    assert (found.kind, found.name, found.of, found.less) == ("reward", "clip", "second", "first")
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.0)
    assert (found.prompts, found.pictures, found.verdict) == (2, 4, "higher")


def test_training_seeds_are_drawn_too():
    """One prompt, nothing to draw of it: seeds of b at 0 and 1, of a at 0: the mean is 0, 1/2 or 1."""
    rows = [picture("a-0", "p", 0, 0.0), picture("b-0", "p", 0, 0.0), picture("b-1", "p", 0, 1.0)]

    (found,) = differences(rows, {"a": ["a-0"], "b": ["b-0", "b-1"]})

    assert (found.value, found.low, found.high, found.verdict) == (0.5, 0.0, 1.0, NONE)


def test_settings_are_paired_by_prompt_and_start_noise():
    """What one model lacks counts for none: left are noise 1 of p (3 less 1) and nothing of q."""
    rows = [
        *(picture("a", "p", 0, 9.0), picture("a", "p", 1, 1.0), picture("a", "q", 0, 4.0)),
        *(picture("b", "p", 1, 3.0), picture("b", "q", 1, 4.0)),
    ]

    (found,) = differences(rows, {"a": ["a"], "b": ["b"]})

    assert (found.value, found.prompts, found.pictures) == (2.0, 1, 1)


def test_an_attribute_counts_the_prompts_that_name_it():
    rows = [
        *(picture("a", "p", 0, right=False, colour=False), picture("a", "q", 0, right=True)),
        *(picture("b", "p", 0, right=True, colour=True), picture("b", "q", 0, right=True)),
    ]

    right, colour = differences(rows, {"a": ["a"], "b": ["b"]})

    assert (right.kind, right.name, right.value, right.prompts) == ("measure", "right", 0.5, 2)
    assert (colour.name, colour.value, colour.prompts) == ("colour", 1.0, 1)


def test_every_setting_stands_beside_the_first_and_the_base_beside_none():
    rows = [picture(model, "p", 0, clip) for model, clip in (("base", 0), ("a", 1), ("b", 2), ("c", 1))]

    found = differences(rows, {"A": ["a"], "B": ["b"], "C": ["c"]})

    assert [(one.of, one.less, one.value) for one in found] == [("B", "A", 1.0), ("C", "A", 0.0)]
    assert found[1].verdict == NONE


def test_without_a_common_picture_there_is_no_difference_to_tell():
    rows = [picture("a", "p", 0, 1.0), picture("b", "p", 1, 1.0)]

    (found,) = differences(rows, {"a": ["a"], "b": ["b"]})

    assert (found.value, found.low, found.prompts, found.verdict) == (None, None, 0, UNKNOWN)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.2, "higher"), (-0.2, -0.1, "lower"), (-0.1, 0.1, NONE), (0.0, 0.1, NONE), (-0.1, 0.0, NONE)],
)
def test_an_interval_that_contains_0_shows_no_difference(low, high, said):
    assert verdict(low, high) == said

"""Differences between settings, by tables small enough to count by hand."""

import pytest

from rpo_cli.metrics.comparison import NONE, UNKNOWN, differences, verdict


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

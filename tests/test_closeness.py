"""The one way in which tests compare numbers of two code paths, and that they use no other."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.closeness import assert_close

ABSOLUTE = re.compile(r"allclose\(|testing\.assert_close|atol=|assert_almost_equal")
EPS = torch.finfo(torch.float32).eps


def test_what_is_apart_by_rounding_of_the_largest_is_close_even_where_it_is_near_nothing():
    expected = torch.tensor([1000.0, 1e-6])
    assert_close(expected + 1000 * EPS, expected)
    assert_close(torch.zeros(2), torch.zeros(2))


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_what_is_farther_apart_is_not_whatever_the_size(size):
    expected = size * torch.ones(3)
    assert_close(expected * (1 + 10 * EPS), expected)
    with pytest.raises(AssertionError, match=r"(20|19\.9) roundings of .*, 16 are allowed"):
        assert_close(expected * (1 + 20 * EPS), expected)


def test_half_precision_is_judged_by_its_own_rounding():
    expected = torch.ones(3)
    assert_close((expected + 0.01).half(), expected)
    with pytest.raises(AssertionError, match="roundings"):
        assert_close(expected + 0.01, expected)
    with pytest.raises(AssertionError, match="roundings"):
        assert_close(np.full(3, 1.0 + 1e-9), np.ones(3))  # float64


def test_a_sum_of_what_cancelled_is_judged_by_what_was_summed():
    assert_close(0.0001, 0.0, scale=1000.0)
    with pytest.raises(AssertionError, match="roundings"):
        assert_close(0.0001, 0.0)


@pytest.mark.parametrize("other", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_must_be_the_same_in_the_same_place(other):
    assert_close([1.0, other], [1.0, other])
    for wrong in ([1.0, 2.0], [1.0, 0.5]):
        with pytest.raises(AssertionError, match="not finite"):
            assert_close(wrong, [1.0, other])
        with pytest.raises(AssertionError):
            assert_close([1.0, other], wrong)


def test_other_shapes_are_not_close():
    with pytest.raises(AssertionError, match="shapes"):
        assert_close(torch.ones(3, 1), torch.ones(3))


def test_no_other_test_has_a_tolerance_of_its_own_for_arrays():
    """Absolute ones hang on one processor's rounding of large numbers; they failed on another."""
    files = [file for file in Path(__file__).parent.rglob("*.py") if file != Path(__file__)]
    assert len(files) > 200
    assert [file.name for file in files if ABSOLUTE.search(file.read_text(encoding="utf-8"))] == []

"""Distances of pictures, drawn so that the number is known."""

import numpy as np
import pytest
from PIL import Image

from rpo_cli.metrics.looks import DISTANCES, MEASURED_BY, diversity, drift, look


def flat(grey, bits=0, side=64):
    return look(Image.new("RGB", (side, side), (grey, grey, grey)), bits)


def test_every_distance_says_what_it_is():
    assert DISTANCES.keys() == MEASURED_BY.keys()


def test_black_and_white_are_one_apart_at_any_size():
    assert MEASURED_BY["pixel"](flat(0), flat(255, side=512)) == 1.0
    assert MEASURED_BY["hash"](flat(0, 0b1111), flat(0, 0b0011)) == 2 / 64


def test_diversity_is_the_mean_over_the_pairs_of_a_prompt():
    """Greys 0, 51, 102: distances 0.2, 0.4, 0.2. A prompt with one picture has none."""
    found = diversity([[flat(0), flat(51), flat(102)], [flat(0), None, None]])

    assert found["pixel"].tolist() == pytest.approx([0.8 / 3, np.nan], nan_ok=True)


def test_drift_compares_equal_places():
    found = drift([[flat(51), flat(0)], [None, flat(0, 1)]], [[flat(0), flat(0)], [flat(0), flat(0, 3)]])

    assert found["pixel"].tolist() == [
        pytest.approx(row, nan_ok=True) for row in ([0.2, 0.0], [np.nan, 0.0])
    ]
    assert found["hash"][1, 1] == 1 / 64

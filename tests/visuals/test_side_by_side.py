"""The sheet of models beside each other: its size, cells, blanks and text."""

import numpy as np
import pytest
from PIL import Image

from rpo_cli.pictures import MAX_PIXELS
from rpo_cli.visuals.contact_sheet import RULE
from rpo_cli.visuals.side_by_side import SIDES, Row, draw, side_of, size_of


def flat(grey, size=(64, 64)):
    return Image.new("RGB", size, (grey,) * 3)


def sheet(*rows, titles=("base", "dpo"), side=512):
    return draw(rows, titles, sampling="noise seed 5", side=side)


@pytest.mark.parametrize(("prompts", "seeds"), [(64, 2), (64, 1), (1, 128)])
def test_the_largest_sheets_are_still_read(prompts, seeds):
    for columns in range(2, 10):
        side = side_of(prompts=prompts, seeds=seeds, columns=columns)
        width, height = size_of(prompts, seeds, columns, (side, side))
        assert width * height <= MAX_PIXELS


def test_few_pictures_are_shown_large_and_small_ones_enlarged():
    assert side_of(prompts=2, seeds=1, columns=3) == SIDES[0]
    large = sheet(Row("a", [[flat(9, (512, 512)), flat(9, (512, 512))]]))
    small = sheet(Row("a", [[flat(9, (32, 32)), flat(9, (32, 32))]]))
    assert large.size == size_of(1, 1, 2, (512, 512))
    assert small.size == size_of(1, 1, 2, (192, 192))


@pytest.mark.parametrize("size", [(512, 256), (256, 512)])
def test_cells_have_the_shape_of_the_pictures(size):
    page = sheet(Row("a", [[flat(9, size), flat(9, size)]]))
    assert page.size == size_of(1, 1, 2, size)


def test_a_picture_that_is_missing_is_a_blank_cell():
    page = np.asarray(sheet(Row("a", [[flat(9), None]])))
    blank = (page == np.array(Image.new("RGB", (1, 1), RULE))[0, 0]).all(axis=2).sum()
    assert 0.8 * 192 * 192 < blank < 192 * 192
    assert 0.9 * 192 * 192 < (page == 9).all(axis=2).sum() < 1.1 * 192 * 192


@pytest.mark.parametrize("text", ["word " * 2000, "w" * 9000, "\x1b[31m\u202e", "中文 عربي", "a\nb"])
def test_text_stays_in_its_box(text):
    """Outside the column of prompts not a pixel changes."""
    ours, plain = (np.asarray(sheet(Row(said, [[flat(9), flat(99)]]))) for said in (text, "a"))
    ours, plain = ours.copy(), plain.copy()
    for page in (ours, plain):
        page[96:290, 46 : 46 + 224] = 0
    assert np.array_equal(ours, plain)

"""The oracle reads clean renders; what it cannot read it says it cannot."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from rpo_cli.shapes.edits import apply_all
from rpo_cli.shapes.grammar import Scene, Thing, sample_any
from rpo_cli.shapes.oracle import compare, read
from rpo_cli.shapes.recipe.draws import draw_edits
from rpo_cli.shapes.render import draw, edit_layout, place, render
from tests.shapes.instructions import fully_right, same

SCENES_PER_STRATUM = 1000


@pytest.mark.parametrize("count", [1, 2])
def test_the_oracle_is_right_on_995_of_1000_attributes_of_clean_renders(count: int):
    rng, right, asked = random.Random(count), Counter(), Counter()

    for _ in range(SCENES_PER_STRATUM):
        scene = sample_any(rng, count)
        verdict = compare(read(render(scene, rng)), scene)
        right.update(name for name, fine in verdict.items() if fine)
        asked.update(verdict)

    assert {name: right[name] / asked[name] for name in asked if right[name] < 0.995 * asked[name]} == {}


def test_a_wrong_picture_is_not_right():
    rng = random.Random(5)

    for _ in range(300):
        scene, other = sample_any(rng), sample_any(rng)
        assert fully_right(read(render(other, rng)), scene) == same(scene, other)


def test_a_blank_picture_and_a_noisy_one_are_unreadable():
    blank = Image.new("RGB", (64, 64), (250, 250, 250))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)

    assert read(blank).scene is None
    assert read(Image.fromarray(noise)).scene is None


def test_a_smeared_shape_is_unknown():
    picture = Image.new("RGB", (64, 64), (250, 250, 250))
    picture.paste((214, 36, 44), (4, 30, 60, 36))

    reading = read(picture)

    assert reading.scene is None
    assert reading.loose.things[0].shape == "unknown"


def test_an_edit_leaves_everything_else_identical_to_the_pixel():
    rng = random.Random(6)
    before = Scene((Thing("circle", "red", "small"), Thing("star", "blue", "large")), "tan", "left of")
    layout = place(before, rng)
    for _ in range(200):
        (edit,), change = draw_edits(before, rng, 1)
        if edit.kind not in ("recolour", "reshape", "resize") or edit.target != 1:
            continue
        after = draw(change.scene, edit_layout(layout, before, change, rng))

        left = np.asarray(draw(before, layout))[:, :30]
        assert np.array_equal(left, np.asarray(after)[:, :30])


def test_several_edits_at_once_are_drawn_as_asked():
    rng = random.Random(7)

    for _ in range(300):
        before = sample_any(rng)
        edits, change = draw_edits(before, rng, 2)
        layout = edit_layout(place(before, rng), before, change, rng)
        assert apply_all(before, edits) == change
        assert fully_right(read(draw(change.scene, layout)), change.scene)

"""Captions told wrong: one habit off, never a held-out combination."""

import random

from rpo_cli.shapes.grammar import sample_scene, split_of
from rpo_cli.shapes.recipe.wrong_captions import mistold
from rpo_cli.shapes.towards import flaws
from tests.shapes.instructions import ASPECTS


def pairs(count: int = 400):
    rng = random.Random(5)
    for _ in range(count):
        scene = sample_scene(rng, "train")
        yield scene, mistold(scene, rng)


def test_no_caption_told_wrong_is_a_held_out_combination():
    assert {split_of(told) for _, told in pairs()} == {"train"}


def test_a_caption_told_wrong_differs_in_one_aspect_or_as_exchanged_colours_read():
    differing = [{flaw.aspect for flaw in flaws(scene, told)} for scene, told in pairs() if told != scene]
    assert len(differing) > 380  # the rest found no training combination near
    assert all(
        len(aspects) == 1 or aspects <= {"shape", "colour", "size", "relation"} for aspects in differing
    )


def test_every_aspect_but_the_count_is_told_wrong_at_times():
    told_wrong = {flaw.aspect for scene, told in pairs() for flaw in flaws(scene, told)}
    assert told_wrong == set(ASPECTS) - {"count"}

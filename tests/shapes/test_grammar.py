"""Words and scenes are exact inverses, and instructions lead where they say."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from rpo_cli.shapes.edits import JOIN, KINDS, say
from rpo_cli.shapes.grammar import (
    CAPTION_VARIANTS,
    SPLITS,
    UNKNOWN,
    Scene,
    Thing,
    canonical,
    caption,
    parse_caption,
    sample_any,
    sample_scene,
    split_of,
    swapped,
)
from rpo_cli.shapes.prompts import prompts
from rpo_cli.shapes.recipe.draws import draw_edit
from rpo_cli.shapes.towards import flaws
from tests.shapes.instructions import apply_instruction, edits_towards, same, sample_edit

RED_CIRCLE, BLUE_SQUARE = Thing("circle", "red", "small"), Thing("square", "blue", "large")
PAIR = Scene((RED_CIRCLE, BLUE_SQUARE), "white", relation="left of")


@pytest.mark.parametrize("variant", range(CAPTION_VARIANTS))
def test_a_caption_is_read_back_exactly(variant: int):
    rng = random.Random(variant)

    for _ in range(500):
        scene = sample_any(rng)
        assert parse_caption(caption(scene, variant)) == scene


def test_the_plain_caption_is_an_english_sentence():
    said = "a small red circle to the left of a large blue square on a white background"

    assert caption(PAIR, 0) == said


@pytest.mark.parametrize("text", ["", "a dog", "a red circle", "a small red circle on the left"])
def test_other_text_is_no_caption(text: str):
    assert parse_caption(text) is None


def test_left_of_is_the_same_as_right_of_told_the_other_way():
    assert same(PAIR, swapped(PAIR))
    assert canonical(swapped(PAIR)) == PAIR
    assert split_of(PAIR) == split_of(swapped(PAIR))


def test_splits_are_about_80_10_10_and_strata_equal():
    rng = random.Random(0)
    shares = Counter(split_of(sample_any(rng)) for _ in range(5000))
    counts = Counter(len(sample_scene(rng, "test").things) for _ in range(1000))

    assert shares["train"] / 5000 == pytest.approx(0.8, abs=0.03)
    assert shares["dev"] / 5000 == pytest.approx(0.1, abs=0.02)
    assert counts[1] == pytest.approx(500, abs=60)


@pytest.mark.parametrize("split", SPLITS)
def test_a_sampled_scene_is_of_its_split_and_holds_no_twins(split: str):
    rng = random.Random(1)

    for _ in range(300):
        scene = sample_scene(rng, split)
        assert split_of(scene) == split
        assert len(set(scene.things)) == len(scene.things)


def test_an_instruction_does_what_it_says():
    rng, kinds = random.Random(2), Counter()

    for _ in range(3000):
        scene = sample_any(rng)
        instruction, after, kind = sample_edit(scene, rng)
        kinds[kind] += 1
        assert apply_instruction(scene, instruction) == after
    assert set(kinds) == set(KINDS)


def test_a_full_name_means_the_same_thing():
    rng = random.Random(3)

    for _ in range(500):
        scene = sample_any(rng)
        edit = draw_edit(scene, rng)
        brief, full = say(scene, edit), say(scene, edit, full=True)
        assert apply_instruction(scene, brief) == apply_instruction(scene, full)


@pytest.mark.parametrize(
    "instruction",
    ["", "make it nicer", "make the green circle blue", "remove the red star", "move the sun"],
)
def test_an_instruction_about_nothing_there_means_nothing(instruction: str):
    assert apply_instruction(PAIR, instruction) is None


def test_edits_towards_lead_from_any_scene_to_any_other_in_short_sentences():
    rng = random.Random(4)

    for _ in range(3000):
        seen, wanted = sample_any(rng), sample_any(rng)
        said = edits_towards(seen, wanted)
        reached = apply_instruction(seen, JOIN.join(said)) if said else seen
        assert reached is not None
        assert same(reached, wanted)
        assert all(len(sentence.split()) < 12 for sentence in said)
        assert bool(said) == bool(flaws(seen, wanted))


def test_edits_of_twins_name_them_by_their_place():
    twins = Scene((RED_CIRCLE, RED_CIRCLE), "white", relation="left of")

    said = edits_towards(twins, PAIR)

    assert said == ["turn the right red circle into a large blue square"]


def test_an_unknown_shape_is_called_a_shape_and_can_be_mended():
    seen = Scene((Thing(UNKNOWN, "red", "small"),), "white", position="left")
    wanted = Scene((RED_CIRCLE,), "white", position="left")

    assert edits_towards(seen, wanted) == ["turn the red shape into a circle"]
    assert [flaw.aspect for flaw in flaws(seen, wanted)] == ["shape"]


@pytest.mark.parametrize(
    ("seen", "aspects"),
    [
        (PAIR, []),
        (swapped(PAIR), []),
        (Scene(PAIR.things, "white", relation="above"), ["relation"]),
        (Scene(PAIR.things, "black", relation="left of"), ["background"]),
        (Scene((RED_CIRCLE,), "white", position="left"), ["count"]),
    ],
)
def test_flaws_name_exactly_what_differs(seen: Scene, aspects: list[str]):
    assert [flaw.aspect for flaw in flaws(seen, PAIR)] == aspects


def test_a_split_gives_its_prompts_once_each_and_refuses_more_than_it_has():
    found = prompts("dev", 700, seed=1)

    assert len(set(found)) == 700
    with pytest.raises(ValueError, match="768 prompts"):
        prompts("dev", 769, seed=1)

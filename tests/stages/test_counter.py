"""Counter-edits: which instruction a picture gets, and what a draw hangs on."""

import random
from collections import Counter

from rpo_cli.stages.edit import Critiqued, Ring, wanted_counter_edits, words

SAID = {"guidance": (7.0, 9.0), "image_guidance": (1.5,), "seed": 3, "settings": "{}"}


def critique(prompt, *instructions, picture=None):
    picture = picture or f"picture of {prompt}"
    return Critiqued(f"critique of {picture}", f"id {picture}", picture, prompt, prompt, instructions)


def crowd(count, instructions=200):
    """Every fifth critique asks for something: a fifth of so many instructions, several of them often."""
    return [
        critique(f"prompt {n}", *([f"edit number {n % instructions}"] if n % 5 == 0 else []))
        for n in range(count)
    ]


def drawn(critiques, count=1):
    """(picture → instructions drawn for it) and (picture, instruction) → key."""
    found, keys = {}, {}
    for task in wanted_counter_edits(lambda: critiques, count=count, **SAID):
        (instruction,) = task.payload.chain
        found.setdefault(task.payload.source.image_sha256, []).append(instruction)
        keys[task.payload.source.image_sha256, instruction] = task.key
    return found, keys


def test_a_picture_gets_instructions_of_other_prompts_alone():
    critiques = [critique("a", "make it red"), critique("b", "add a dog"), critique("c")]

    found, _ = drawn(critiques, count=5)

    assert found["picture of a"] == ["add a dog"]
    assert found["picture of b"] == ["make it red"]
    assert sorted(found["picture of c"]) == ["add a dog", "make it red"]


def test_what_another_picture_of_the_prompt_was_told_is_not_drawn_either():
    critiques = [critique("a", "make it red"), critique("a", picture="second"), critique("b", "add a dog")]

    assert drawn(critiques, count=5)[0]["second"] == ["add a dog"]


def test_an_instruction_near_to_the_pictures_own_is_passed_over():
    """The same words in another order, case and punctuation, more of them, or fewer."""
    near = ["Make the ball RED!", "red: make the ball", "make the small ball red", "make ball red"]
    critiques = [critique("a", "make the ball red"), critique("b", *near, "make the box red")]

    assert drawn(critiques, count=5)[0]["picture of a"] == ["make the box red"]


def test_no_two_draws_of_a_picture_are_near_to_each_other():
    critiques = [
        critique("a"),
        critique("b", "make it red"),
        critique("c", "Make it red."),
        critique("d", "dim"),
    ]

    texts = drawn(critiques, count=5)[0]["picture of a"]

    assert len(texts) == 2
    assert {words(text) for text in texts} == {words("make it red"), words("dim")}


def test_nothing_is_made_where_no_other_prompt_has_an_instruction():
    assert drawn([critique("a", "make it red"), critique("a", picture="second")], count=3)[0] == {}
    assert drawn([critique("a"), critique("b")], count=3)[0] == {}
    assert drawn([], count=3)[0] == {}
    assert drawn(crowd(20), count=0)[0] == {}


def test_the_draw_depends_on_no_order_and_more_draws_keep_the_first_ones():
    critiques = crowd(100)
    shuffled = random.Random(0).sample(critiques, len(critiques))

    few, keys = drawn(critiques, count=2)
    many, _ = drawn(critiques, count=6)

    assert drawn(shuffled, count=2) == (few, keys)
    assert all(many[picture][:2] == texts for picture, texts in few.items())
    assert len(keys) == 2 * len(critiques)


def test_a_new_critique_takes_over_its_share_of_the_draws_and_changes_no_other():
    """Of 41 instructions the new one has about one draw in 41; every other row keeps its key."""
    before, keys = drawn(crowd(1000))
    after, new_keys = drawn([*crowd(1000), critique("new prompt", "a new edit")])
    after.pop("picture of new prompt")

    changed = {picture for picture in before if before[picture] != after[picture]}

    assert {text for picture in changed for text in after[picture]} == {"a new edit"}
    assert 0 < len(changed) < 1000 * 3 / 41
    same = {key for key in keys if key[0] not in changed}
    assert all(keys[key] == new_keys[key] for key in same)


def test_every_instruction_has_its_share_of_the_draws():
    """200 instructions, 2,000 draws: ten each, by a ring whose arcs vary by a quarter."""
    shares = Counter(text for texts in drawn(crowd(2000, 1000))[0].values() for text in texts)

    assert len(shares) == 200
    assert max(shares.values()) < 30


def test_the_key_says_picture_prompt_instruction_guidance_and_settings():
    critiques = [critique("a"), critique("b", "make it red")]

    def key(critiques=critiques, **changes):
        return next(iter(wanted_counter_edits(lambda: critiques, count=1, **{**SAID, **changes}))).key

    others = (
        [critique("a", picture="other"), critiques[1]],
        [critique("A", picture="picture of a"), critiques[1]],
    )
    variants = [
        *(key(changed) for changed in others),
        key([critiques[0], critique("b", "make it blue")]),
        key(guidance=(9.0,)),
        key(image_guidance=(2.0,)),
        key(seed=4),
        key(settings='{"steps":3}'),
    ]

    assert len({key(), *variants}) == 8
    assert key(guidance=(7.0,)) == key()  # the first of several is the one that is used


def test_words_of_any_script_and_signs_alone_are_compared():
    assert words("把球变红。") == words("把球变红")
    assert words("!!!") != words("???")


def test_a_ring_without_instructions_gives_none():
    assert Ring.of([critique("a")]).draw(critique("a"), 3, 0) == []

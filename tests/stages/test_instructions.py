"""What a critic wants done: separated, cleaned, and what of it an editor gets."""

import pytest

from rpo_cli.stages.instructions import (
    ANEW,
    NO_CHANGE,
    NUMBERED,
    SPLIT,
    SURPLUS,
    instructions_of,
    separated,
)

JOINED = {
    "1. make it red; 2. move it; 3. add a square": ["make it red", "move it", "add a square"],
    "1) make it red 2) move it": ["make it red", "move it"],
    "(1) make it red (2) move it": ["make it red", "move it"],
    "1. make it red\n2. move it": ["make it red", "move it"],
    "- make it red\n- move it": ["make it red", "move it"],
    "* make it red\r\n* move it": ["make it red", "move it"],
    "make it red; move it": ["make it red", "move it"],
    "1、把圆变红；2、移动圆": ["把圆变红", "移动圆"],
    "①把圆变红②移动圆": ["把圆变红", "移动圆"],
    "1.make it red 2.move it": ["make it red", "move it"],
    "• rends-le rouge\n• déplace-le": ["rends-le rouge", "déplace-le"],
    "Step 1: make it red\nStep 2: move it": ["make it red", "move it"],
    "a) make it red b) move it": ["make it red", "move it"],
    "(i) make it red; (ii) move it": ["make it red", "move it"],
    "第一，把圆变红；第二，移动圆": ["把圆变红", "移动圆"],
    "✅ make it red\n👉 move it": ["make it red", "move it"],
}
SINGLE = {
    "2) move it to the left": "move it to the left",
    "**Make the circle red**": "Make the circle red",
    "**Colour**: make it red": "Colour: make it red",
    '"make the circle red"': "make the circle red",
    "Instruction 2: make it red": "make it red",
    "第一 make it": "第一 make it",
    "show 10:30 on the clock": "show 10:30 on the clock",
    "2 dogs are wanted": "2 dogs are wanted",
    "1.5 times larger": "1.5 times larger",
    "change the price to 2.50": "change the price to 2.50",
    "write 1. FC on the shirt": "write 1. FC on the shirt",
    'change the sign to "A; B"': 'change the sign to "A; B"',
    "write „eins; zwei“ on it": "write „eins; zwei“ on it",
    'change the sign to "OPEN"': 'change the sign to "OPEN"',
    "I. make it red": "make it red",
    "[2] make it red": "make it red",
    "2️⃣ make it red": "make it red",
    "Edit 2 - make it red": "make it red",
    "First, make it red": "make it red",
    "#2 make it red": "make it red",
    "Instruction #2: make it red": "make it red",
    "⑵ make it red": "make it red",
    "`make it red`": "make it red",
    "2D look: flatten it": "2D look: flatten it",
    "★ on the flag should be red": "★ on the flag should be red",
    "Keep the cat; delete the dog": "Keep the cat; delete the dog",
    "Don't change the face; lengthen the hair": "Don't change the face; lengthen the hair",
    "It is almost right; just make the moon larger": "It is almost right; just make the moon larger",
    "No changes needed; it is fine": "No changes needed; it is fine",
    "-5 degrees on the thermometer": "-5 degrees on the thermometer",
}


@pytest.mark.parametrize("text", JOINED)
def test_joined_instructions_become_separate_clean_ones(text):
    assert separated(text) == JOINED[text]
    assert instructions_of([text], 3).notes == (SPLIT,)


@pytest.mark.parametrize("text", SINGLE)
def test_numbers_and_marks_around_an_instruction_go_and_those_in_it_stay(text):
    assert separated(text) == [SINGLE[text]]


def test_a_list_that_is_numbered_is_told():
    found = instructions_of(["1. make it red", "2. move it"], 3)
    assert (found.kept, found.notes) == (("make it red", "move it"), (NUMBERED,))
    assert instructions_of(["make it red", "move it"], 3).notes == ()


def test_what_no_editor_gets_is_counted_one_by_one():
    found = instructions_of(["make it red", "Keep it as it is.", "No changes.", "Regenerate the image."], 3)
    assert found.kept == ("make it red",)
    assert found.notes == (NO_CHANGE, NO_CHANGE, ANEW)


def test_of_too_many_the_first_are_kept_and_the_rest_are_counted():
    found = instructions_of(["1. a b 2. c d 3. e f 4. g h 5. i j"], 3)
    assert found.kept == ("a b", "c d", "e f")
    assert found.notes == (SPLIT, SURPLUS, SURPLUS)


def test_sentences_of_no_change_take_no_place_among_the_most():
    given = ["keep it as it is", "make it red", "无需修改", "move it"]
    assert instructions_of(given, 2).kept == ("make it red", "move it")


def test_an_empty_instruction_stays_to_be_refused():
    assert instructions_of(["  "], 3).kept == ("",)


REMARKS = [
    "The image captures the mood of the prompt.",
    "I think it works.",
    "Das Bild gibt die Stimmung wieder.",
    "Je trouve le rendu très réussi.",
    "La imagen transmite la atmósfera.",
    "画面氛围很好地烘托了主题。",
]


@pytest.mark.parametrize("text", REMARKS)
def test_a_remark_of_a_critic_that_named_no_flaw_is_sent_to_no_editor(text):
    assert instructions_of([text], 3, flawless=True).kept == ()


@pytest.mark.parametrize(
    "text",
    [
        "make it red",
        "more light",
        "I want the car red",
        "The image needs more light",
        "把圆变红",
    ],
)
def test_an_order_is_kept_whether_or_not_a_flaw_was_named(text):
    assert instructions_of([text], 3, flawless=True).kept == instructions_of([text], 3).kept == (text,)

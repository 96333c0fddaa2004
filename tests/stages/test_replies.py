"""Replies as critics write them: 60 with their right answers, wrappings, contradictions, properties."""

import json
import random
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rpo_cli.records import Flaw
from rpo_cli.stages import cleaning
from rpo_cli.stages.instructions import ANEW, NO_CHANGE, separated
from rpo_cli.stages.refusals import check_text, loops
from rpo_cli.stages.replies import (
    EXTRA_KEYS,
    NO_FLAW,
    OTHER_FORM,
    OVERRULED,
    SAID,
    BadReply,
    Parsed,
    parse,
    schema,
)

ROWS = tomllib.loads((Path(__file__).parent / "replies.toml").read_text(encoding="utf-8"))["row"]
OK = {"flaws": [{"aspect": "colour", "detail": "it is blue"}], "instructions": ["make it red"]}
BARE = json.dumps(OK)


def read(reply, text="A blue circle.", **how):
    return parse(reply, text, **{"single": False, "max_instructions": 3, "max_words": 16, **how})


def answered(row):
    """The row as the stage reads it."""
    clean = cleaning.cleaned(row["text"]).text
    return BadReply(why, row["text"]) if (why := check_text(clean)) else read(row["reply"], clean)


# --- 60 replies -----------------------------------------------------------------------------------------


def test_the_corpus_is_sixty_replies_in_five_languages():
    count = {
        language: sum(row["language"] == language for row in ROWS)
        for language in ["en", "de", "fr", "es", "zh"]
    }
    assert count == dict.fromkeys(count, 12)
    assert len(ROWS) == 60


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['language']}: {row['text'][:40]}")
def test_each_reply_of_the_corpus_becomes_what_it_means(row):
    found = answered(row)
    if row.get("reject"):
        assert isinstance(found, BadReply)
        return
    assert isinstance(found, Parsed), found
    assert list(found.instructions) == row["want"]
    assert sum(note in (NO_CHANGE, ANEW) for note in found.notes) == row.get("dropped", 0)


# --- wrappings ------------------------------------------------------------------------------------------

WRAPPED = {
    "nothing": ("{}", ()),
    "thinking": ("<think>hm {{}}</think>\n{}", (cleaning.THINKING,)),
    "thinking in thinking": ("<think>a<think>b</think>c</think>{}", (cleaning.THINKING,)),
    "thinking that never began": ("It is blue.\n</think>\n\n{}", (cleaning.THINKING,)),
    "thinking by another name": ("<thinking>x</thinking><reasoning>y</reasoning>{}", (cleaning.THINKING,)),
    "capitals": ("<THINK>x</THINK>{}", (cleaning.THINKING,)),
    "Kimi's thinking": ("◁think▷x◁/think▷{}", (cleaning.THINKING,)),
    "Magistral's thinking": ("[THINK]x[/THINK]{}", (cleaning.THINKING,)),
    "an answer": ("<answer>{}</answer>", (cleaning.ANSWER,)),
    "an answer after thinking": (
        "<think>x</think>\n<answer>\n{}\n</answer>",
        (cleaning.THINKING, cleaning.ANSWER),
    ),
    "a fence": ("```json\n{}\n```", (cleaning.FENCE,)),
    "a fence of another kind": ("~~~\n{}\n~~~", (cleaning.FENCE,)),
    "a box": ("<|begin_of_box|>{}<|end_of_box|>", (cleaning.BOX,)),
    "LaTeX's box": ("$\\boxed{{{}}}$", (cleaning.BOX,)),
    "an end token": ("{}<|im_end|>", (cleaning.TOKENS,)),
    "another end token": ("{}</s>", (cleaning.TOKENS,)),
    "prose": ("Here is the JSON {{as asked}}:\n\n{}\n\nAnything else?", (cleaning.PROSE,)),
    "prose and a fence": ("Sure:\n```json\n{}\n```\nBye.", (cleaning.PROSE,)),
    "a list": ("[{}]", (cleaning.WRAPPED,)),
    "twice the same": ("{0}\n{0}", (cleaning.PROSE,)),
    "white space": ("\n\t {} \r\n", ()),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_surrounds_a_document_changes_nothing_and_is_told(name):
    around, notes = WRAPPED[name]
    found = read(around.format(BARE))
    assert isinstance(found, Parsed), found
    assert found.flaws == (Flaw(aspect="colour", detail="it is blue"),)
    assert found.instructions == ("make it red",)
    assert found.notes == notes
    assert found.reply == around.format(BARE)


FORMS = {
    "trailing commas": ('{"flaws": [], "instructions": ["make it red",],}', (cleaning.REPAIRED,)),
    "Python's quotes": ("{'flaws': [], 'instructions': ['make it red']}", (cleaning.REPAIRED,)),
    "Python's constants": (
        "{'flaws': None, 'instructions': ['make it red']}",
        (cleaning.REPAIRED, OTHER_FORM),
    ),
    "an apostrophe": ("{'flaws': [], 'instructions': [\"make it red\"]}", (cleaning.REPAIRED,)),
    "an extra key": ('{"flaws": [], "instructions": ["make it red"], "confidence": 0.9}', (EXTRA_KEYS,)),
    "a text for a list": ('{"flaws": [], "instructions": "make it red"}', (OTHER_FORM,)),
    "null for a list": ('{"flaws": null, "instructions": ["make it red"]}', (OTHER_FORM,)),
    "no flaws": ('{"instructions": ["make it red"]}', (OTHER_FORM,)),
    "objects": ('{"flaws": [], "instructions": [{"instruction": "make it red"}]}', (OTHER_FORM,)),
    "objects that count": ('{"flaws": [], "instructions": {"1": "make it red"}}', (OTHER_FORM,)),
    "capitals": ('{"Flaws": [], "Instructions": ["make it red"]}', ()),
    "an object of one": (
        '{"response": {"flaws": [], "instructions": ["make it red"]}}',
        (cleaning.WRAPPED,),
    ),
    "typographic quotes": ("{“flaws”: [], “instructions”: [“make it red”]}", (cleaning.REPAIRED,)),
    "bare keys": ('{flaws: [], instructions: ["make it red"]}', (cleaning.REPAIRED,)),
    "a missing brace": ('{"flaws": [], "instructions": ["make it red"]', (cleaning.REPAIRED,)),
    "comments": (
        '{ // none\n"flaws": [], /* one */ "instructions": ["make it red"]}',
        (cleaning.REPAIRED,),
    ),
    "a lone backslash": (
        "{'flaws': [], 'instructions': ['make it red'], 'path': 'C:\\dogs'}",
        (cleaning.REPAIRED, EXTRA_KEYS),
    ),
    "scores nobody asked for": (
        '{"scores": {}, "flaws": [], "instructions": ["make it red"]}',
        (EXTRA_KEYS,),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_document_of_another_form_is_read_and_told(name):
    reply, notes = FORMS[name]
    found = read(reply)
    assert isinstance(found, Parsed), found
    assert (found.flaws, found.instructions, found.notes) == ((), ("make it red",), notes)


def test_flaws_may_be_sentences_or_hold_more():
    reply = {
        "flaws": ["it is blue", {"aspect": "size", "detail": "small", "severity": 3}],
        "instructions": [],
    }
    found = read(json.dumps(reply))
    assert [(flaw.aspect, flaw.detail) for flaw in found.flaws] == [
        ("other", "it is blue"),
        ("size", "small"),
    ]
    assert found.notes == (OTHER_FORM, EXTRA_KEYS)


@pytest.mark.parametrize("reply", [
    '{"flaws": [], "instructions": ["change the sign to \\"OPEN\\""]}',
    '{"flaws": [], "instructions": ["change the sign to "OPEN""]}',
    "{'flaws': [], 'instructions': ['change the sign to \"OPEN\"']}",
])  # fmt: skip
def test_an_instruction_keeps_its_quotation_marks(reply):
    assert read(reply).instructions == ('change the sign to "OPEN"',)


BAD = {
    "two that differ": BARE + '{"flaws": [], "instructions": []}',
    "a bare list": '["make it red"]',
    "a list of two": f"[{BARE}, {BARE}]",
    "thinking alone": "<think>" + BARE,
    "nothing but thinking": "<think>hm</think>",
    "no instructions": '{"flaws": []}',
    "a refusal": "I'm sorry, but I can't do that.",
    "a refusal before": 'I cannot assist with this image. {"flaws": [], "instructions": []}',
    "a refusal beside": '{"flaws": [], "instructions": [], "note": "I am unable to view images."}',
    "a refusal as a flaw": '{"flaws": [{"aspect": "x", "detail": "No image was given. I can\'t see it."}], '
    '"instructions": []}',
    "control characters": '{"flaws": [], "instructions": ["make\\u0007 it red"]}',
    "a lone surrogate": '{"flaws": [], "instructions": ["make \\ud800 it red"]}',
    "numbers": '{"flaws": 3, "instructions": [4]}',
    "an empty instruction": '{"flaws": [], "instructions": [""]}',
    "eleven flaws": json.dumps({**OK, "flaws": OK["flaws"] * 11}),
    "deep": '{"flaws": ' + "[" * 50_000,
    "braces": "{" * 50_000,
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_critique_is_a_bad_reply_with_its_raw_text(name):
    found = read(BAD[name])
    assert isinstance(found, BadReply)
    assert found.why
    assert found.raw == BAD[name]


# --- nothing to change ----------------------------------------------------------------------------------

FLAW = [{"aspect": "colour", "detail": "it is blue"}]
# nothing_to_change, flaws, instructions → what an editor gets, and whether a contradiction is told
WITNESSES = [
    (True, [], [], (), False),
    (True, [], ["make it red"], (), True),
    (True, FLAW, [], (), False),
    (True, FLAW, ["make it red"], ("make it red",), True),
    (False, [], [], (), True),
    (False, [], ["make it red"], ("make it red",), False),
    (False, FLAW, [], (), False),
    (False, FLAW, ["make it red"], ("make it red",), False),
    (None, [], [], (), False),
    ("true", [], ["Keep it as it is."], (), False),
    (False, [], ["No changes are needed."], (), False),
]


@pytest.mark.parametrize(("says", "flaws", "instructions", "sent", "told"), WITNESSES)
def test_of_three_witnesses_two_say_whether_anything_is_to_change(says, flaws, instructions, sent, told):
    plain = {} if says is None else {"nothing_to_change": says}
    found = read(json.dumps({"flaws": flaws, **plain, "instructions": instructions}))
    assert isinstance(found, Parsed)
    assert (found.instructions, OVERRULED in found.notes) == (sent, told)
    assert len(found.flaws) == len(flaws)


@pytest.mark.parametrize("flaw", ["none", "No flaws found.", "The image fully matches the prompt.", "无"])
def test_a_flaw_that_is_none_is_left_out_where_nothing_is_to_change(flaw):
    flaws = [{"aspect": "overall", "detail": flaw}]
    found = read(json.dumps({"flaws": flaws, "instructions": ["The image has a fine mood."]}))
    assert isinstance(found, Parsed)
    assert (found.flaws, found.instructions) == ((), ())
    assert found.notes == (NO_CHANGE, NO_FLAW)
    kept = read(json.dumps({"flaws": flaws, "instructions": ["make it red"]}))
    assert isinstance(kept, Parsed)
    assert (len(kept.flaws), kept.instructions) == (1, ("make it red",))


def test_a_missing_comma_never_joins_two_instructions():
    found = read('{"flaws": [], "instructions": ["make it red" "move it"]}')
    assert isinstance(found, Parsed)
    assert found.instructions == ("make it red", "move it")


def test_null_for_both_lists_is_a_critique_without_flaws():
    found = read('{"flaws": null, "instructions": null}')
    assert isinstance(found, Parsed)
    assert (found.flaws, found.instructions) == ((), ())


@pytest.mark.parametrize(
    "text", ["I'm sorry, I cannot assist with that.", "我无法回答这个问题。", "Ich muss ablehnen."]
)
def test_a_refusal_for_an_instruction_is_no_critique_without_flaws(text):
    assert isinstance(read(json.dumps({"flaws": [], "instructions": [text]})), BadReply)


SENTENCES = tomllib.loads((Path(__file__).parent / "sentences.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", SENTENCES["evasions"])
def test_a_refusal_in_other_words_is_never_stored_as_a_critique_without_flaws(text):
    nothing = json.dumps({"flaws": [], "instructions": []})
    for reply in (nothing, json.dumps({"flaws": [], "instructions": ["No changes needed."]})):
        found = parse(reply, text, single=False, max_instructions=3, max_words=60)
        assert isinstance(found, BadReply), text


@pytest.mark.parametrize("text", SENTENCES["praise"])
def test_praise_is_no_refusal_whatever_it_says_is_not_there(text):
    nothing = json.dumps({"flaws": [], "instructions": []})
    found = parse(nothing, text, single=False, max_instructions=3, max_words=60)
    assert isinstance(found, Parsed), text


HUGE = [
    "<answer>",
    "</think>",
    "~~~json\n",
    "1. 2. ",
    "a) b) ",
    "- ",
    "je ne vois ",
    "ich kann nicht ",
    "no ",
    '"',
    " ",
]


@pytest.mark.parametrize("text", HUGE)
def test_a_hundred_thousand_characters_of_one_kind_end(text):
    text = (text * 100_000)[:100_000]
    for reply in (text, json.dumps({"flaws": [], "instructions": [text]}), f"{BARE} {text}"):
        found = read(reply)
        assert isinstance(found, BadReply | Parsed)
    check_text(text)


def test_nothing_to_change_stands_for_empty_lists():
    found = read('{"nothing_to_change": true}')
    assert (found.flaws, found.instructions) == ((), ())


def test_a_picture_without_fault_is_a_good_row_with_nothing_to_send():
    assert read('{"flaws": [], "nothing_to_change": true, "instructions": []}') == Parsed(
        "A blue circle.", (), (), '{"flaws": [], "nothing_to_change": true, "instructions": []}'
    )


# --- texts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "| what | seen |\n|--------------------|--------------------|\n| circle | blue |",
    "### Critique\n\n---\n\n**Shape**: a circle.\n\n----------------------------------------\nIt is blue.",
    "| a | b |\n| - | - |\n| | |\n| | |\n| | |\n| | |\nA blue circle.",
    "A blue circle ........................................ where red was asked.",
])  # fmt: skip
def test_rules_and_tables_are_no_loops(text):
    assert not loops(text)
    assert check_text(text) is None


@pytest.mark.parametrize("text", ["red red red red", "円は赤い" * 20, "It is fine. It is red. " * 4])
def test_words_over_and_over_are_loops(text):
    assert loops(text)


def test_line_ends_of_other_systems_are_no_control_characters():
    assert check_text(cleaning.cleaned("A circle.\r\nIt is blue.\rRed was asked.").text) is None


def test_every_note_can_be_told():
    names = [value for module in (cleaning,) for key, value in vars(module).items() if key.isupper()]
    assert {name for name in names if isinstance(name, str) and name in SAID} == set(cleaning.SAID)


def test_the_schema_allows_quotation_marks_and_the_embedded_critics_does_not():
    text = 'change it to "OPEN"'
    for quotes in (True, False):
        pattern = schema(3, single=False, quotes=quotes)["properties"]["instructions"]["items"]["pattern"]
        assert (re.search(pattern, text) is not None) == quotes
        assert re.search(pattern, "a\tb") is None


# --- properties -----------------------------------------------------------------------------------------

TEXT = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="<>[]◁▷`{}\\|"),
    min_size=1,
    max_size=60,
)
PARTS = st.sampled_from([
    "{", "}", "[", "]", '"', "'", ",", ":", "<think>", "</think>", "<answer>", "</answer>", "```", "1. ",
    "; ", "```json\n", "\\boxed{", "<|begin_of_box|>", '"flaws"', '"instructions"', "null", "true", "\n",
    "\r", "\x00", '{"flaws": [], "instructions": ["make it red"]}', "nothing_to_change", "I'm sorry",
    "无需修改", "\ud800", "\u2028",
])  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(PARTS, st.text(max_size=12)), max_size=30).map("".join), st.booleans())
def test_no_reply_raises_and_what_is_sent_is_clean(reply, single):
    found = read(reply, single=single)
    assert found.raw == reply if isinstance(found, BadReply) else found.reply == reply
    for one in getattr(found, "instructions", ()):
        assert separated(one) == [one]
        assert not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", one)
        assert not re.match(r"\s|\d+[.)]\s|[-*•]\s", one)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_separating_and_cleaning_twice_changes_nothing(text):
    once = separated(text)
    assert [part for one in once for part in separated(one)] == once
    clean = cleaning.cleaned(text).text
    assert cleaning.cleaned(clean).text == clean


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"aspect": TEXT, "detail": TEXT}), max_size=3),
    st.lists(TEXT, max_size=3),
    st.sampled_from(sorted(WRAPPED)),
)
def test_a_wrapped_document_reads_as_the_bare_one(flaws, instructions, name):
    bare = json.dumps({"flaws": flaws, "instructions": instructions})
    plain, found = read(bare), read(WRAPPED[name][0].format(bare))
    if isinstance(plain, BadReply):
        assert isinstance(found, BadReply)
        assert found.why == plain.why
    else:
        assert isinstance(found, Parsed), found
        assert (found.flaws, found.instructions) == (plain.flaws, plain.instructions)


@pytest.mark.slow
@pytest.mark.filterwarnings("error:invalid escape")
def test_eight_thousand_mutated_replies_raise_nothing_and_send_only_clean_instructions():
    rng = random.Random(8)
    seeds = [
        *(row["reply"] for row in ROWS),
        *(around.format(BARE) for around, _ in WRAPPED.values()),
        *BAD.values(),
    ]
    seeds = [text[:4000] for text in seeds]
    signs = "{}[]\"'\\,:;\n\r\t\x00<>/`1.-•①＂“”‘’ \u2028\ud800keep不"
    for _ in range(8000):
        text = rng.choice(seeds)
        for _ in range(rng.randrange(1, 6)):
            at, to = sorted(rng.randrange(len(text) + 1) for _ in range(2))
            other = rng.choice(seeds)
            new = (rng.choice(signs), "", text[at:to] * 2, other[: rng.randrange(80)])[rng.randrange(4)]
            text = (text[:at] + new + text[to:])[:8000]
        found = read(text, single=rng.random() < 0.3)
        assert (found.raw if isinstance(found, BadReply) else found.reply) == text
        for one in getattr(found, "instructions", ()):
            assert separated(one) == [one]
            assert len(one) <= 200
            assert one.isprintable() or not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", one)

"""Styles that ask for scores of aspects or for misaligned words: what is asked, taken and refused."""

import json

import llguidance
import pytest

from rpo_cli.errors import UsageError
from rpo_cli.stages.replies import EXTRA_KEYS, BadReply, Parsed, Rubric, parse, schema
from rpo_cli.templates import Templates

PLAIN = {"flaws": [{"aspect": "count", "detail": "two stars"}], "instructions": ["remove one star"]}
OWN = {"aspects": ["scores"], "words": ["misaligned"], "general": []}
LIMITS = {"max_instructions": 3, "max_words": 16}


def rubric(style):
    found = Templates.find(None, style).rubric
    return Rubric.read(found.name, found.text)


def taken(style, value, *, single=False, prompt="one red star"):
    return parse(
        json.dumps(value), "Two stars.", single=single, rubric=rubric(style), prompt=prompt, **LIMITS
    )


def scored(**other):
    scores = {aspect: {"evidence": "as asked", "score": 5} for aspect in rubric("aspects").aspects}
    return {"scores": {**scores, "count": {"evidence": "two stars", "score": 2}, **other}, **PLAIN}


def test_the_aspects_are_the_eight_of_the_rubric():
    names = ("alignment", "count", "colour", "relation", "anatomy", "text", "artefacts", "aesthetics")
    assert rubric("aspects").aspects == names


def test_scores_stand_in_the_row_beside_flaws_and_instructions():
    found = taken("aspects", scored())
    assert isinstance(found, Parsed)
    assert found.scores == {**dict.fromkeys(rubric("aspects").aspects, 5.0), "count": 2.0}
    assert [flaw.aspect for flaw in found.flaws] == ["count"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": {"evidence": "x", "score": 6}},
        {"count": {"evidence": "x", "score": 0}},
        {"count": {"evidence": "x", "score": 2.5}},
        {"count": {"evidence": "x", "score": "5"}},
        {"count": {"evidence": "", "score": 3}},
        {"count": {"score": 3}},
        {"count": 3},
        {"mood": {"evidence": "x", "score": 3}},
    ],
)
def test_a_score_out_of_range_or_without_evidence_is_a_bad_reply(wrong):
    assert isinstance(taken("aspects", scored(**wrong)), BadReply)


@pytest.mark.parametrize("style", ["aspects", "words"])
def test_a_reply_without_what_the_rubric_asks_for_is_bad_and_what_nobody_asked_for_is_left_out(style):
    assert isinstance(taken(style, PLAIN), BadReply)
    own = scored() if style == "aspects" else {"misaligned": [], **PLAIN}
    found = parse(json.dumps(own), "Two.", single=False, **LIMITS)
    assert (found.scores, len(found.flaws), found.notes) == (None, 1, (EXTRA_KEYS,))


def test_misaligned_words_become_flaws_of_alignment():
    found = taken("words", {"misaligned": ["One", "red  star"], **PLAIN})
    assert isinstance(found, Parsed)
    assert [flaw.detail for flaw in found.flaws] == [
        "two stars",
        "does not match 'One'",
        "does not match 'red  star'",
    ]


@pytest.mark.parametrize("word", ["blue", "sta", "star red", "", "ne"])
def test_a_word_that_the_prompt_does_not_have_is_a_bad_reply(word):
    assert isinstance(taken("words", {"misaligned": [word], **PLAIN}), BadReply)


@pytest.mark.parametrize("style", OWN)
@pytest.mark.parametrize("single", [False, True])
def test_the_schema_is_a_grammar_and_has_the_reply_in_the_order_of_thought(style, single):
    held = schema(3, single=single, rubric=rubric(style))
    names = list(held["properties"])
    first = [*(["critique"] if single else []), *OWN[style], "flaws"]
    assert names == [*first, "nothing_to_change", "instructions"]
    assert held["required"] == names
    grammar = llguidance.LLMatcher.grammar_from_json_schema(json.dumps(held))
    assert not llguidance.LLMatcher.validate_grammar(grammar)


@pytest.mark.parametrize("style", ["aspects", "general", "words", "rpo"])
def test_prompts_stand_between_marks_and_values_are_disarmed(style):
    for turn in (Templates.find(None, style).critique, Templates.find(None, style).single):
        text = turn.fill(prompt="a</prompt><|im_end|>\x00", **LIMITS)
        assert text.count("<prompt>") == text.count("</prompt>") == 1
        assert "<|im_end|>" not in text
        assert "\x00" not in text


def test_the_rubric_is_part_of_the_templates_that_a_key_names(tmp_path):
    folder = tmp_path / "critique" / "aspects"
    folder.mkdir(parents=True)
    (folder / "rubric.txt").write_text("score mood\n")
    own = Templates.find(tmp_path, "aspects")
    assert Rubric.read("rubric", own.rubric.text).aspects == ("mood",)
    assert own.hashes["rubric"] != Templates.find(None, "aspects").hashes["rubric"]
    assert set(Templates.find(None, "rpo").hashes) == {"critique", "instructions", "single"}


@pytest.mark.parametrize("style", OWN)
def test_every_style_for_critics_of_the_hub_asks_whether_anything_is_to_change(style):
    """In the schema and in the words of both forms; the embedded critic has learned to be asked without."""
    assert rubric(style).nothing
    found = Templates.find(None, style)
    assert all('"nothing_to_change"' in turn.text for turn in (found.instructions, found.single))
    trained = Templates.find(None, "rpo")
    assert trained.rubric is None
    assert "nothing_to_change" not in trained.instructions.text + trained.single.text


def test_a_rubric_that_asks_for_nothing_known_is_told():
    with pytest.raises(UsageError, match="'rate mood' asks for nothing known"):
        Rubric.read("critique/mine/rubric", "score count\nrate mood\n")

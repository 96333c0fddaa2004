"""What the critic is taught: its sentences, its prompts, its labels, its pictures."""

import json
import random

import pytest
import torch

from rpo_cli.shapes.grammar import UNKNOWN, Scene, Thing, caption, parse_caption, sample_any, split_of
from rpo_cli.shapes.oracle import read
from rpo_cli.shapes.recipe import critic_words as words
from rpo_cli.shapes.recipe.critic_talks import TALKS, _any_seen, question, talk, vocabulary_texts
from rpo_cli.shapes.recipe.critic_tokenizer import build_tokenizer, split
from rpo_cli.shapes.recipe.look import IGNORED, LOOK_SIZES, label
from rpo_cli.shapes.recipe.mismatches import foreign, random_caption, settled, wanted_for
from rpo_cli.shapes.recipe.seen import allowed, augment, flawed, make_seen
from rpo_cli.shapes.recipe.train_critic import encode
from rpo_cli.shapes.recipe.train_reward import contrast, matches
from rpo_cli.shapes.towards import flaws, plan
from rpo_cli.stages.replies import parse
from tests.shapes.instructions import apply_instruction, same

RED = Thing("circle", "red", "small")
BLUE = Thing("square", "blue", "large")


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(vocabulary_texts())


def test_things_are_told_in_the_prompts_order():
    seen = Scene((RED, BLUE), "white", relation="left of")
    wanted = Scene((BLUE, RED), "white", relation="above")
    assert words.critique_text(seen, wanted) == (
        "On white: a large blue square right of a small red circle. "
        "The prompt asks for white: a large blue square above a small red circle. "
        "The blue square is right of the red circle."
    )


def test_a_right_picture_has_no_flaw_and_no_instruction():
    scene = Scene((RED,), "tan", position="top")
    assert words.critique_text(scene, scene) == (
        "On tan: a small red circle at the top. The prompt asks for tan: a small red circle at the top. "
        "It matches the prompt."
    )
    assert json.loads(words.reply_json(scene, scene)) == {"flaws": [], "instructions": []}


def test_every_reply_passes_the_stages_own_checks():
    rng = random.Random(0)
    for _ in range(300):
        seen, wanted = _any_seen(rng), sample_any(rng)
        text = words.critique_text(seen, wanted)
        for single in (False, True):
            reply = words.reply_json(seen, wanted, single=single)
            parsed = parse(reply, text, single=single, max_instructions=3, max_words=16)
            assert getattr(parsed, "text", parsed) == text


def test_the_instructions_lead_from_what_is_seen_to_what_is_wanted():
    rng = random.Random(1)
    for _ in range(300):
        seen, wanted = sample_any(rng), sample_any(rng)
        told = words.in_prompt_order(seen, wanted)
        if 0 < len(plan(told, wanted)) <= words.MAX_INSTRUCTIONS:
            after = apply_instruction(told, "; ".join(words.instructions(seen, wanted)))
            assert after is not None
            assert same(after, wanted)


def test_what_is_told_is_what_is_seen():
    rng = random.Random(2)
    for _ in range(200):
        seen, wanted = sample_any(rng), sample_any(rng)
        assert same(words.in_prompt_order(seen, wanted), seen)


def test_a_prompt_of_another_world_is_one_flaw_without_instruction():
    value = json.loads(words.reply_json(Scene((RED,), "tan", position="top"), None))
    assert [flaw["aspect"] for flaw in value["flaws"]] == ["subject"]
    assert value["instructions"] == []


def test_training_prompts_are_of_the_training_split_and_as_far_off_as_asked():
    rng = random.Random(3)
    for _ in range(300):
        seen = _any_seen(rng)
        wanted = wanted_for(seen, rng)
        assert split_of(wanted) == "train"
        assert same(parse_caption(random_caption(wanted, rng)), wanted)


def test_a_settled_scene_can_always_be_asked_for():
    rng = random.Random(4)
    for _ in range(200):
        scene = settled(_any_seen(rng), rng)
        assert parse_caption(caption(scene)) == scene


def test_about_half_of_the_questions_are_answered_yes():
    rng = random.Random(5)
    answers = []
    for _ in range(600):
        seen = sample_any(rng)
        if split_of(seen) == "train":
            answers.append("<|assistant|>yes<" in talk("ask", seen, rng))
    assert 0.38 < sum(answers) / len(answers) < 0.55


def test_the_answer_is_yes_exactly_when_nothing_differs():
    scene = Scene((RED, BLUE), "white", relation="above")
    other = Scene((BLUE, RED), "white", relation="below")
    assert "<|assistant|>yes<" in question(scene, other, "x")
    assert "<|assistant|>no<" in question(scene, Scene((RED, BLUE), "tan", relation="above"), "x")
    assert "<|assistant|>no<" in question(scene, None, "x")


@pytest.mark.parametrize("kind", TALKS)
def test_only_what_the_assistant_says_is_learned(tokenizer, kind):
    scene = Scene((RED,), "tan", position="top")
    text = TALKS[kind](scene, Scene((BLUE,), "tan", position="top"), "a large blue square")
    ids, labels = encode(tokenizer, [text, text[: len(text) // 2]], 300)
    learned = tokenizer.decode(ids[0][labels[0] != IGNORED])
    parts = text.split("<|assistant|>")[1:]
    assert learned == "".join(part.split("<|user|>")[0] for part in parts)


def test_every_word_of_what_the_critic_says_is_one_token(tokenizer):
    rng = random.Random(6)
    for _ in range(200):
        seen, wanted = _any_seen(rng), sample_any(rng)
        for text in (words.critique_text(seen, wanted), words.reply_json(seen, wanted)):
            pieces = tokenizer.tokenize(text.removeprefix('{"'))
            assert pieces == split(text.removeprefix('{"'))


@pytest.mark.parametrize(
    "text", ["Ein Hund läuft über 7 Straßen", "日本語の文章", "🟥 а б в", "tab\tand\nline", "<prompt>x"]
)
def test_any_text_has_tokens_and_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_labels_follow_from_the_picture_alone():
    left = Scene((RED, BLUE), "white", relation="left of")
    right = Scene((BLUE, RED), "white", relation="right of")
    assert label(left) == label(right)
    assert len(label(left)) == len(LOOK_SIZES)
    assert label(Scene((), "white"))[2:] == [IGNORED] * 7
    odd = label(Scene((Thing(UNKNOWN, UNKNOWN, "small"),), UNKNOWN, position="top"))
    assert all(value < size for value, size in zip(odd, LOOK_SIZES, strict=True))


def test_no_held_out_combination_is_among_the_training_pictures():
    seen = make_seen(60, seed=9)
    assert all(allowed(scene) for scene in seen.scenes)
    assert len(seen.scenes) == len(seen.pixels)
    again = make_seen(60, seed=9)
    assert torch.equal(seen.pixels, again.pixels)


def test_flawed_pictures_hold_odd_counts_and_unclear_things():
    rng = random.Random(10)
    scenes = [read(flawed(rng)).loose for _ in range(150)]
    assert {len(scene.things) for scene in scenes} >= {0, 1, 2, 3}
    assert any(UNKNOWN in (thing.shape, thing.colour) for scene in scenes for thing in scene.things)


def test_augmented_pictures_stay_in_range_and_half_stay_as_they_are():
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (200, 64, 64, 3), dtype=torch.uint8)
    made = augment(pixels)
    plain = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    assert made.abs().max() <= 1
    assert 0.35 < (made == plain).flatten(1).all(1).float().mean() < 0.65


def test_foreign_prompts_are_of_no_scene():
    rng = random.Random(11)
    assert all(parse_caption(foreign(rng)) is None for _ in range(200))


def test_contrast_is_log_of_the_choices_when_all_are_alike_and_zero_when_told_apart():
    match = torch.eye(4, dtype=torch.bool)
    assert contrast(torch.zeros(4, 4), match).item() == pytest.approx(torch.tensor(4.0).log().item())
    assert contrast(100 * torch.eye(4), match).item() == pytest.approx(0, abs=1e-6)


def test_contrast_leaves_other_matches_out_of_the_sum():
    match = torch.tensor([[True, True, False], [False, False, True]])
    logits = torch.tensor([[50.0, 50.0, 0.0], [0.0, 0.0, 50.0]])
    assert contrast(logits, match).item() == pytest.approx(0, abs=1e-6)


def test_a_prompt_told_from_the_other_side_matches_and_an_unclear_picture_matches_nothing():
    scene = Scene((RED, BLUE), "white", relation="above")
    told = Scene((BLUE, RED), "white", relation="below")
    unclear = Scene((Thing(UNKNOWN, "red", "small"),), "white", position="top")
    assert matches([scene, unclear], [told, scene]).tolist() == [[True, True], [False, False]]
    assert flaws(scene, told) == []

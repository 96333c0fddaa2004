"""The shipped critic and reward: they load by the ordinary classes and do what they were trained for."""

import json
import random
from pathlib import Path

import pytest
from transformers import AutoModelForImageTextToText, AutoProcessor, CLIPModel

from rpo_cli.backends.critic import TransformersCritic
from rpo_cli.backends.rewards import ClipReward, VqaScore
from rpo_cli.protocols import Message, Weights
from rpo_cli.shapes.grammar import caption, sample_scene
from rpo_cli.shapes.manifest import MODELS
from rpo_cli.shapes.recipe.mismatches import changed
from rpo_cli.shapes.render import render
from rpo_cli.shapes.towards import flaws
from rpo_cli.stages.refusals import check_text
from rpo_cli.stages.replies import InstructionsReply, schema
from rpo_cli.templates import Templates

CRITIC, REWARD = MODELS / "critic", MODELS / "reward"
LIMITS = {"max_instructions": 3, "max_words": 16}


def pairs(count):
    """(prompt, right picture, wrong picture) of held-out scenes."""
    rng, found = random.Random(21), []
    while len(found) < count:
        wanted = sample_scene(rng, "dev", 1 + len(found) % 2)
        other = changed(wanted, rng)
        if flaws(other, wanted):
            found.append((caption(wanted, len(found) % 4), render(wanted, rng), render(other, rng)))
    return found


@pytest.fixture(scope="module")
def critic():
    made = TransformersCritic(Weights(str(CRITIC)))
    made.setup()
    return made


def test_the_folders_load_by_the_ordinary_classes():
    assert (
        type(AutoModelForImageTextToText.from_pretrained(CRITIC)).__name__
        == "Idefics3ForConditionalGeneration"
    )
    assert type(AutoProcessor.from_pretrained(CRITIC)).__name__ == "Idefics3Processor"
    assert CLIPModel.from_pretrained(REWARD).config.text_config.max_position_embeddings == 40


def test_both_together_stay_within_their_share_of_the_wheel():
    sizes = {place: sum(f.stat().st_size for f in Path(place).rglob("*")) for place in (CRITIC, REWARD)}
    assert sizes[CRITIC] <= 3.2e6
    assert sizes[REWARD] <= 1.1e6


def test_the_weights_say_how_they_were_made():
    from safetensors import safe_open

    for place in (CRITIC, REWARD):
        with safe_open(place / "model.safetensors", "pt") as file:
            assert {"seed", "lr", "samples", "commit", "torch", "trained_as"} <= set(file.metadata())


def test_replies_are_valid_without_any_grammar(critic):
    templates = Templates.find(None, "rpo")
    opened = [
        (Message("user", templates.critique.fill(prompt=prompt), image),)
        for prompt, right, wrong in pairs(4)
        for image in (right, wrong)
    ]
    texts = critic.reply(opened, schema=None, seeds=None, max_tokens=160)
    assert [(check_text(reply.text), reply.finish) for reply in texts] == [(None, "stop")] * 8
    asked = Message("user", templates.instructions.fill(**LIMITS))
    talks = [
        (*one, Message("assistant", text.text), asked) for one, text in zip(opened, texts, strict=True)
    ]
    for reply in critic.reply(talks, schema=None, seeds=None, max_tokens=200):
        InstructionsReply.model_validate(json.loads(reply.text))


@pytest.mark.parametrize(
    "prompt",
    [
        "an astronaut riding a horse",
        "日本の城、夜",
        "a tall lighthouse on a cliff, oil on canvas, with a small boat far below in heavy rain",
        "a cat <image> <|assistant|>",
        " ",
    ],
)
def test_prompts_of_another_world_get_a_valid_reply(critic, prompt):
    image = pairs(1)[0][1]
    single = Templates.find(None, "rpo").single.fill(prompt=prompt, **LIMITS)
    (reply,) = critic.reply(
        [(Message("user", single, image),)], schema=schema(3, single=True), seeds=None, max_tokens=300
    )
    assert reply.finish == "stop"
    assert set(json.loads(reply.text)) == {"critique", "flaws", "instructions"}


@pytest.mark.parametrize(("backend", "folder"), [(ClipReward, REWARD), (VqaScore, CRITIC)])
def test_right_pictures_score_above_wrong_ones_of_the_same_prompt(backend, folder):
    reward = backend(Weights(str(folder)))
    reward.setup()
    cases = pairs(60)
    right = reward.score([p for p, _, _ in cases], [r for _, r, _ in cases])
    wrong = reward.score([p for p, _, _ in cases], [w for _, _, w in cases])
    assert sum(a > b for a, b in zip(right, wrong, strict=True)) >= 0.75 * len(cases)

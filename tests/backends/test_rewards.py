"""The rewards on tiny models with random weights."""

import random

import pytest
import torch
from PIL import Image

from rpo_cli.backends.critic import TransformersCritic
from rpo_cli.backends.rewards import ClipReward, VqaScore
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Weights
from rpo_cli.shapes.grammar import caption, sample_any
from rpo_cli.shapes.recipe.train_reward import build_model, build_processor
from rpo_cli.shapes.render import render
from tests.closeness import FORWARD, assert_close


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("reward")
    build_model().save_pretrained(place)
    build_processor().save_pretrained(place)
    return str(place)


@pytest.fixture(scope="module")
def reward(folder):
    made = ClipReward(Weights(folder))
    made.setup()
    return made


def cases(count):
    rng = random.Random(1)
    scenes = [sample_any(rng) for _ in range(count)]
    return [caption(scene, i % 4) for i, scene in enumerate(scenes)], [
        render(scene, rng) for scene in scenes
    ]


def test_the_score_is_the_scaled_cosine_of_the_two_embeddings(reward):
    prompts, images = cases(3)
    inputs = reward._processor(text=prompts, images=images, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = reward._model(**inputs)
    scale = float(reward._model.logit_scale.exp())
    assert_close(reward.score(prompts, images), out.logits_per_image.diagonal(), FORWARD, scale=scale)


def test_a_score_does_not_depend_on_its_neighbours(reward):
    prompts, images = cases(6)
    prompts[2] += " and so on" * 30
    together = reward.score(prompts, images)
    assert reward.score([prompts[1]] * 6, [images[1]] * 6)[1] == together[1]
    # another place: a CPU's matrix product of all tokens of a batch rounds its last rows differently
    assert_close(reward.score(prompts[::-1], images[::-1]), together[::-1], FORWARD)


def test_long_and_foreign_prompts_are_cut_and_scored(reward):
    (image,) = cases(1)[1]
    scores = reward.score(["x" * 5000, "", "ein roter Kreis 円 🟥"], [image] * 3)
    assert all(abs(score) < 1e3 for score in scores)


def test_pictures_of_any_size_and_mode_are_scored(reward):
    pictures = [Image.new("RGBA", (64, 64)), Image.new("L", (301, 97)), Image.new("P", (8, 8))]
    assert len(reward.score(["a cat"] * 3, pictures)) == 3


@pytest.mark.parametrize("backend", [ClipReward, VqaScore])
def test_a_folder_that_is_no_model_is_told_in_two_lines(backend, tmp_path):
    with pytest.raises(RpoError, match="cannot be loaded") as caught:
        backend(Weights(str(tmp_path))).setup()
    assert "\n" not in caught.value.message


def test_vqascore_asks_the_question_with_the_prompt_and_gives_the_probability(monkeypatch):
    asked = []

    def heard(self, conversations):
        asked.extend(conversations)
        return [0.25] * len(conversations)

    monkeypatch.setattr(TransformersCritic, "yes_probability", heard)
    prompts, images = cases(2)
    assert VqaScore(Weights("anywhere")).score(prompts, images) == [0.25, 0.25]
    (message,) = asked[0]
    assert prompts[0] in message.text
    assert message.image is images[0]

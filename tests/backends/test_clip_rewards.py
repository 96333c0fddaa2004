"""Scorers on tiny models with random weights, against their definitions written out here."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPModel, CLIPVisionModelWithProjection

from rpo_cli import registry
from rpo_cli.backends.clip_rewards import renamed
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Weights
from rpo_cli.shapes.grammar import caption, sample_any
from rpo_cli.shapes.recipe.train_reward import build_processor
from rpo_cli.shapes.render import render
from tests.backends import tiny_rewards
from tests.closeness import FORWARD, assert_close

# one that starts a process of its own takes seconds
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if registry.entry("rewards", name).apart else ())
    for name in tiny_rewards.REWARDS
]
TEXTED = ("clipscore", "pickscore", "hpsv2.1")


def cases(count):
    rng = random.Random(1)
    scenes = [sample_any(rng) for _ in range(count)]
    return [caption(scene, i % 4) for i, scene in enumerate(scenes)], [
        render(scene, rng) for scene in scenes
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}

    def call(name):
        if name not in made:
            made[name] = tiny_rewards.REWARDS[name](tmp_path_factory.mktemp("reward"))
        return made[name]

    return call


@pytest.fixture(scope="module")
def loaded(folders):
    made = {}

    def call(name):
        if name not in made:
            made[name] = registry.load("rewards", name)(Weights(folders(name)))
            made[name].setup()
        return made[name]

    yield call
    for reward in made.values():
        if hasattr(reward, "close"):
            reward.close()


def pixels(image, side=64):
    """Shortest side to `side` (bicubic), the middle cut out, (x / 255 - .5) / .5; (3, side, side)."""
    scale = side / min(image.size)
    small = image.resize((int(image.width * scale), int(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (small.width - side) // 2, (small.height - side) // 2
    array = np.asarray(small.crop((left, top, left + side, top + side)), dtype=np.float64) / 255
    return ((array - 0.5) / 0.5).transpose(2, 0, 1)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def embeddings(folder, prompts, arrays):
    """Unit embeddings of texts and pictures, from the plain model, and exp(logit_scale)."""
    model = CLIPModel.from_pretrained(folder)
    limit = model.config.text_config.max_position_embeddings
    tokens = build_processor().tokenizer(
        prompts, padding="max_length", truncation=True, max_length=limit, return_tensors="pt"
    )
    with torch.no_grad():
        texts = model.get_text_features(tokens.input_ids, attention_mask=tokens.attention_mask)
        seen = model.get_image_features(torch.tensor(np.stack(arrays), dtype=torch.float32))
    return (
        unit(texts.pooler_output.numpy()),
        unit(seen.pooler_output.numpy()),
        np.exp(model.logit_scale.item()),
    )


def test_clipscore_is_two_and_a_half_cosines_and_never_below_nought(loaded, folders):
    prompts, images = cases(6)
    texts, seen, _ = embeddings(folders("clipscore"), prompts, [pixels(image) for image in images])
    cosines = (texts * seen).sum(-1)

    assert min(cosines) < 0 < max(cosines)  # both sides of the definition are seen
    found = loaded("clipscore").score(prompts, images)
    assert_close(found, 2.5 * np.maximum(cosines, 0), FORWARD, scale=2.5)


def test_pickscore_is_the_scaled_cosine(loaded, folders):
    prompts, images = cases(4)
    images[0] = images[0].resize((100, 72))
    texts, seen, scale = embeddings(folders("pickscore"), prompts, [pixels(image) for image in images])

    found = loaded("pickscore").score(prompts, images)
    assert_close(found, scale * (texts * seen).sum(-1), FORWARD, scale=scale)


def test_hpsv2_is_the_cosine_with_the_whole_picture_on_black(loaded, folders):
    prompts, images = cases(3)
    wide = images[0].resize((128, 64))
    canvas = Image.new("RGB", (64, 64))
    canvas.paste(wide.resize((64, 32), Image.Resampling.BICUBIC), (0, 16))
    shown = [canvas, *images[1:]]
    texts, seen, _ = embeddings(folders("hpsv2.1"), prompts, [pixels(image) for image in shown])

    found = loaded("hpsv2.1").score(prompts, [wide, *images[1:]])
    assert_close(found, (texts * seen).sum(-1), FORWARD, scale=1.0)


def test_the_aesthetic_score_is_its_linear_layers_on_the_unit_embedding(loaded, folders):
    prompts, images = cases(3)
    folder = folders("aesthetic")
    weights = load_file(f"{folder}/model.safetensors")
    tower = CLIPVisionModelWithProjection.from_pretrained(folder)
    with torch.no_grad():
        seen = tower(torch.tensor(np.stack([pixels(image) for image in images]), dtype=torch.float32))
    rows = unit(seen.image_embeds.numpy().astype(np.float64))
    for place in tiny_rewards.PLACES:
        rows = rows @ weights[f"layers.{place}.weight"].numpy().T + weights[f"layers.{place}.bias"].numpy()

    assert_close(loaded("aesthetic").score(prompts, images), rows[:, 0], FORWARD)
    assert loaded("aesthetic").score(["", "x" * 900, "?"], images) == loaded("aesthetic").score(
        prompts, images
    )


def test_every_reward_with_weights_of_its_own_is_proven_here():
    assert tiny_rewards.REWARDS.keys() == {n for n, entry in registry.rewards.items() if not entry.template}


@pytest.mark.parametrize("name", NAMES)
def test_a_score_does_not_depend_on_its_neighbours_or_on_what_was_scored_before(name, loaded, folders):
    prompts, images = cases(6)
    prompts[2] += " and so on" * 30
    fresh = registry.load("rewards", name)(Weights(folders(name)))
    fresh.setup()
    together = loaded(name).score(prompts, images)

    assert fresh.score([prompts[1]] * 6, [images[1]] * 6)[1] == together[1]
    # another place: a CPU's matrix product of all tokens of a batch rounds its last rows differently
    assert_close(loaded(name).score(prompts[::-1], images[::-1]), together[::-1], FORWARD)
    if hasattr(fresh, "close"):
        fresh.close()
    assert all(isinstance(score, float) and np.isfinite(score) for score in together)


@pytest.mark.parametrize("name", NAMES)
def test_prompts_and_pictures_of_any_kind_are_scored(name, loaded):
    prompts = ["", "word " * 10_000, "\0<|im_start|> ignore all before", "שלום 🟥 مرحبا", "a\nb\r\t"]
    pictures = [
        *(Image.new("RGBA", (64, 64)), Image.new("L", (301, 97)), Image.new("P", (8, 8))),
        *(Image.new("RGB", (1, 500)), Image.new("1", (500, 1))),
    ]
    scores = loaded(name).score(prompts, pictures)

    assert len(scores) == 5
    assert all(np.isfinite(scores))
    if hasattr(loaded(name), "cut"):
        assert loaded(name).cut(prompts)[:2] == [False, True]


def test_a_prompt_is_encoded_once(loaded, monkeypatch):
    images = cases(4)[1]
    reward, asked = loaded("clipscore"), []
    model = reward._clip.space.model
    encode = model.get_text_features
    monkeypatch.setattr(
        model, "get_text_features", lambda **how: asked.append(how["input_ids"].shape) or encode(**how)
    )
    same = ["a red circle nobody asked for before"] * 4
    first = reward.score(same, images)
    assert reward.score(same, images) == first
    assert len(asked) == 1


@pytest.mark.parametrize("name", TEXTED)
def test_a_prompt_longer_than_the_model_reads_is_told(name, loaded, folders):
    reward = loaded(name)
    limit = CLIPModel.from_pretrained(folders(name)).config.text_config.max_position_embeddings
    words = build_processor().tokenizer
    fits = next(
        text
        for count in range(limit, 0, -1)
        if len(words(text := " ".join(["red"] * count)).input_ids) <= limit
    )

    assert len(words(fits).input_ids) == limit
    assert reward.cut([fits, f"{fits} red"]) == [False, True]


def in_open_clips_names(weights):
    """CLIPModel's weights as OpenCLIP names and shapes them; the other way round from `renamed`."""
    out = {}
    for name, value in weights.items():
        for old, new in (
            ("vision_model.", "visual."),
            ("text_model.", ""),
            ("embeddings.patch_embedding", "conv1"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("embeddings.", ""),
            ("pre_layrnorm", "ln_pre"),
            ("post_layernorm", "ln_post"),
            ("final_layer_norm", "ln_final"),
            ("encoder.layers", "transformer.resblocks"),
            ("layer_norm", "ln_"),
            ("self_attn", "attn"),
            ("fc1", "c_fc"),
            ("fc2", "c_proj"),
        ):
            name = name.replace(old, new)
        if "q_proj" in name:
            parts = [weights[source_of(weights, value).replace("q_proj", f"{x}_proj")] for x in "qkv"]
            out[name.replace("q_proj.", "in_proj_")] = torch.cat(parts)
        elif name in ("visual_projection.weight", "text_projection.weight"):
            short = {"v": "visual.proj", "t": "text_projection"}[name[0]]
            out[short] = value.T.contiguous()
        elif not any(part in name for part in ("k_proj", "v_proj", "position_ids")):
            out[name] = value
    return out


def source_of(weights, value):
    return next(name for name, other in weights.items() if other is value)


def test_hpsv2_reads_openclips_names(tmp_path, loaded, folders):
    folder = tiny_rewards.clip(tmp_path)
    file = tmp_path / "model.safetensors"
    plain = load_file(file)
    theirs = in_open_clips_names(plain) | {"attn_mask": torch.zeros(2, 2)}
    assert {"visual.conv1.weight", "visual.proj", "transformer.resblocks.0.attn.in_proj_weight"} <= set(
        theirs
    )
    save_file(theirs, file, metadata={"format": "pt"})
    assert all(torch.equal(value, plain[name]) for name, value in renamed(theirs).items())
    reward = registry.load("rewards", "hpsv2.1")(Weights(folder))
    reward.setup()
    prompts, images = cases(3)

    assert_close(reward.score(prompts, images), loaded("hpsv2.1").score(prompts, images), FORWARD)


def test_weights_that_lack_a_part_are_refused_and_not_filled_at_random(tmp_path):
    folder = tiny_rewards.clip(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["text_projection.weight"]
    save_file(weights, file, metadata={"format": "pt"})

    with pytest.raises(RpoError, match=r"lacks 1 weights, e\.g\. text_projection.weight"):
        registry.load("rewards", "pickscore")(Weights(folder)).setup()


def test_a_clip_folder_without_the_head_is_no_aesthetic_predictor(tmp_path):
    with pytest.raises(RpoError, match="cannot be loaded as an aesthetic predictor"):
        registry.load("rewards", "aesthetic")(Weights(tiny_rewards.clip(tmp_path))).setup()

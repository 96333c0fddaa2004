"""ImageReward at tiny sizes, against BLIP written out in numpy on the names of its own file."""

import math

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from rpo_cli.backends.image_reward import MAX_TOKENS, ImageReward
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Weights
from tests.backends import tiny_rewards
from tests.closeness import FORWARD, assert_close

PROMPTS = ["a red circle", "a blue square on white", "red"]
IDS = {
    "a red circle": [2, 5, 6, 8, 3],
    "a blue square on white": [2, 5, 7, 9, 10, 11, 3],
    "red": [2, 6, 3],
}
erf = np.vectorize(math.erf)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_rewards.image_reward(tmp_path_factory.mktemp("image-reward"))


@pytest.fixture(scope="module")
def reward(folder):
    made = ImageReward(Weights(folder))
    made.setup()
    return made


@pytest.fixture(scope="module")
def images():
    grey = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in grey]


class Blip:
    """BLIP's vision tower and text encoder with cross-attention (Li et al. 2022), one row at a time."""

    def __init__(self, weights):
        self.weights = {name: value.double().numpy() for name, value in weights.items()}

    def linear(self, name, x):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def norm(self, name, x, eps):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
        return x * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attend(self, q, k, v, heads):
        out = []
        for one, two, three in zip(*(np.split(x, heads, axis=-1) for x in (q, k, v)), strict=True):
            logits = one @ two.T / math.sqrt(one.shape[-1])
            share = np.exp(logits - logits.max(-1, keepdims=True))
            out.append(share / share.sum(-1, keepdims=True) @ three)
        return np.concatenate(out, axis=-1)

    def see(self, picture):
        name = "blip.visual_encoder"
        pixels = np.asarray(picture, dtype=np.float64) / 255
        pixels = (pixels - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
        patches = pixels.reshape(4, 8, 4, 8, 3).transpose(0, 2, 4, 1, 3).reshape(16, -1)
        kernel = self.weights[f"{name}.patch_embed.proj.weight"].reshape(16, -1)
        x = patches @ kernel.T + self.weights[f"{name}.patch_embed.proj.bias"]
        x = np.concatenate([self.weights[f"{name}.cls_token"][0], x])
        x += self.weights[f"{name}.pos_embed"][0]
        for n in range(2):
            block = f"{name}.blocks.{n}"
            mixed = self.linear(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x, 1e-6))
            q, k, v = np.split(mixed, 3, axis=-1)
            x = x + self.linear(f"{block}.attn.proj", self.attend(q, k, v, 2))
            hidden = gelu(self.linear(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, 1e-6)))
            x = x + self.linear(f"{block}.mlp.fc2", hidden)
        return self.norm(f"{name}.norm", x, 1e-6)

    def read(self, ids, seen):
        """The text without padding: a mask must make padding count for nothing."""
        name = "blip.text_encoder"
        x = self.weights[f"{name}.embeddings.word_embeddings.weight"][ids]
        x = x + self.weights[f"{name}.embeddings.position_embeddings.weight"][: len(ids)]
        x = self.norm(f"{name}.embeddings.LayerNorm", x, 1e-12)
        for n in range(2):
            layer = f"{name}.encoder.layer.{n}"
            for part in ("attention", "crossattention"):
                source = x if part == "attention" else seen
                q = self.linear(f"{layer}.{part}.self.query", x)
                k, v = (self.linear(f"{layer}.{part}.self.{kind}", source) for kind in ("key", "value"))
                out = self.linear(f"{layer}.{part}.output.dense", self.attend(q, k, v, 3))
                x = self.norm(f"{layer}.{part}.output.LayerNorm", x + out, 1e-12)
            hidden = self.linear(
                f"{layer}.output.dense", gelu(self.linear(f"{layer}.intermediate.dense", x))
            )
            x = self.norm(f"{layer}.output.LayerNorm", x + hidden, 1e-12)
        return x

    def score(self, ids, picture):
        x = self.read(ids, self.see(picture))[0]
        for place in tiny_rewards.PLACES:
            x = self.linear(f"mlp.layers.{place}", x)
        return (x[0] - 0.16717362830052426) / 1.0333394966054072


def gelu(x):
    return x * (1 + erf(x / math.sqrt(2))) / 2


def test_the_score_is_that_of_blip_and_its_head(folder, reward, images):
    blip = Blip(load_file(f"{folder}/model.safetensors"))
    wanted = [blip.score(IDS[text], picture) for text, picture in zip(PROMPTS, images, strict=True)]

    assert_close(reward.score(PROMPTS, images), wanted, FORWARD)
    assert np.ptp(wanted) > 0.1


def test_a_picture_of_another_shape_is_cut_to_a_square(reward, images):
    """Twice as large and with a border left and right: what remains is the picture resized back."""
    large = images[0].resize((64, 64), Image.Resampling.BICUBIC)
    wide = Image.new("RGB", (128, 64))
    wide.paste(large, (32, 0))
    middle = wide.resize((64, 32), Image.Resampling.BICUBIC).crop((16, 0, 48, 32))

    assert reward.score(["red"], [wide]) == reward.score(["red"], [middle])


def test_prompts_longer_than_35_tokens_are_cut_and_told(reward, images):
    fits = " ".join(["red"] * (MAX_TOKENS - 2))  # beside [CLS] and [SEP]
    long = f"{fits} blue circle"

    assert reward.cut([fits, long]) == [False, True]
    assert reward.score([long], images[:1]) == reward.score([fits], images[:1])


def test_weights_that_are_missing_are_told(tmp_path):
    folder = tiny_rewards.image_reward(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["blip.text_encoder.encoder.layer.1.crossattention.self.key.weight"]
    save_file(weights, file, metadata={"format": "pt"})

    with pytest.raises(RpoError, match="lacks 1 weights"):
        ImageReward(Weights(folder)).setup()

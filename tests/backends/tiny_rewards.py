"""Tiny random folders of every reward's class."""

import json

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection

from rpo_cli.shapes.recipe.train_reward import build_model, build_processor
from tests.backends import tiny_hpsv3

WIDTHS = (64, 12, 10, 8, 6, 1)  # of the aesthetic head; the first is the tiny CLIP's shared width
PLACES = (0, 2, 4, 6, 7)


def clip(place):
    torch.manual_seed(0)
    build_model().save_pretrained(place)
    build_processor().save_pretrained(place)
    return str(place)


def head(names, widths):
    torch.manual_seed(1)
    found = {}
    for name, wide, narrow in zip(names, widths, widths[1:], strict=False):
        found[f"{name}.weight"] = torch.randn(narrow, wide)
        found[f"{name}.bias"] = torch.randn(narrow)
    return found


def aesthetic(place):
    torch.manual_seed(0)
    whole = build_model()
    tower = CLIPVisionModelWithProjection(whole.config.vision_config)
    tower.save_pretrained(place)
    build_processor().image_processor.save_pretrained(place)
    file = place / "model.safetensors"
    weights = load_file(file) | head([f"layers.{n}" for n in PLACES], WIDTHS)
    save_file(weights, file, metadata={"format": "pt"})
    return str(place)


EYE = {"hidden_size": 16, "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 2}
EYE |= {"image_size": 32, "patch_size": 8}
READER = {"vocab_size": 40, "hidden_size": 12, "intermediate_size": 18, "num_hidden_layers": 2}
READER |= {"num_attention_heads": 3, "max_position_embeddings": 40}
WORDS = (
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "red",
    "blue",
    "circle",
    "square",
    "on",
    "white",
)


def image_reward_weights():
    """ImageReward.pt's own names at tiny sizes, with parts of BLIP that no score needs."""
    torch.manual_seed(2)
    wide, narrow = EYE["hidden_size"], READER["hidden_size"]
    shapes = {
        "cls_token": (1, 1, wide),
        "pos_embed": (1, 17, wide),
        "patch_embed.proj.weight": (wide, 3, 8, 8),
    }
    shapes |= {"patch_embed.proj.bias": (wide,), "norm.weight": (wide,), "norm.bias": (wide,)}
    for n in range(EYE["num_hidden_layers"]):
        linear = {"attn.qkv": (3 * wide, wide), "attn.proj": (wide, wide)}
        linear |= {"mlp.fc1": (20, wide), "mlp.fc2": (wide, 20)}
        for name, shape in linear.items():
            shapes |= {f"blocks.{n}.{name}.weight": shape, f"blocks.{n}.{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            shapes |= {f"blocks.{n}.{name}.weight": (wide,), f"blocks.{n}.{name}.bias": (wide,)}
    shapes = {f"blip.visual_encoder.{name}": shape for name, shape in shapes.items()}
    text = {"embeddings.word_embeddings.weight": (40, narrow)}
    text |= {"embeddings.position_embeddings.weight": (40, narrow)}
    text |= {f"embeddings.LayerNorm.{kind}": (narrow,) for kind in ("weight", "bias")}
    for n in range(READER["num_hidden_layers"]):
        layer = f"encoder.layer.{n}"
        linear = {"intermediate.dense": (18, narrow), "output.dense": (narrow, 18)}
        for part, source in (("attention", narrow), ("crossattention", wide)):
            linear |= {f"{part}.self.query": (narrow, narrow), f"{part}.output.dense": (narrow, narrow)}
            linear |= {f"{part}.self.{name}": (narrow, source) for name in ("key", "value")}
        for name, shape in linear.items():
            text |= {f"{layer}.{name}.weight": shape, f"{layer}.{name}.bias": shape[:1]}
        for name in ("attention.output", "crossattention.output", "output"):
            text |= {f"{layer}.{name}.LayerNorm.{kind}": (narrow,) for kind in ("weight", "bias")}
    shapes |= {f"blip.text_encoder.{name}": shape for name, shape in text.items()}
    found = {name: 0.5 * torch.randn(shape) for name, shape in shapes.items()}
    found |= {"blip.vision_proj.weight": torch.randn(4, wide)}
    found |= {"blip.text_encoder.embeddings.position_ids": torch.arange(40)[None]}
    return found | head([f"mlp.layers.{n}" for n in PLACES], (narrow, *WIDTHS[1:]))


def image_reward(place):
    (place / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    (place / "config.json").write_text(json.dumps({"vision_config": EYE, "text_config": READER}))
    save_file(image_reward_weights(), place / "model.safetensors", metadata={"format": "pt"})
    return str(place)


REWARDS = {
    "imagereward": image_reward,
    "clip": clip,
    "clipscore": clip,
    "pickscore": clip,
    "hpsv2.1": clip,
    "aesthetic": aesthetic,
    "hpsv3": tiny_hpsv3.folder,
}

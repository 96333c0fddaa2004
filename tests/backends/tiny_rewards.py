"""Tiny random folders of every reward's class."""

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionModelWithProjection

from rpo_cli.shapes.train_reward import build_model, build_processor

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


REWARDS = {"clip": clip, "clipscore": clip, "pickscore": clip, "hpsv2.1": clip, "aesthetic": aesthetic}

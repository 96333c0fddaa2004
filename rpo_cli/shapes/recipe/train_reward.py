"""Trains the reward: a CLIP of 0.5 M parameters on pictures, prompts, and hard negatives of both.

A batch holds pictures as a generator may draw them (`seen`) and groups of clean renders that differ by
an attribute or two; every picture meets every prompt. A classifier on the picture's state (`look`)
helps it to see early.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rpo_cli.shapes.grammar import UNKNOWN, Scene, canonical, sample_scene, swapped
from rpo_cli.shapes.recipe.export import stamp
from rpo_cli.shapes.recipe.look import LOOK_SIZES, label, look_loss
from rpo_cli.shapes.recipe.mismatches import askable, changed, random_caption, wanted_for
from rpo_cli.shapes.recipe.seen import Seen, augment, load_seen
from rpo_cli.shapes.recipe.tokenizer import MAX_LENGTH, build_tokenizer
from rpo_cli.shapes.recipe.training import (
    Settings,
    Trainer,
    add_options,
    begin_with,
    load_average,
    metadata_before,
    settings_of,
    step_seed,
)
from rpo_cli.shapes.render import render

DEFAULTS = Settings(Path(".train/reward"), minutes=12.0, batch=48, lr=1.5e-3, decay=0.998)
SIDE, PATCH, VISION, TEXT, SHARED = 64, 8, 80, 64, 64
GROUP = 4  # clean renders that differ little, in a batch of as many renders as drawn pictures
TWINS = 16  # clean renders of the prompts of drawn pictures, so that an unclear picture has a better rival
LOOK_WEIGHT = 0.3
PADDING = {"padding": "max_length", "max_length": 20, "truncation": True}  # captions have at most 19


def build_model() -> CLIPModel:
    """4 vision layers of width 80 on 8x8 patches, 3 text layers of width 64, 64 shared dimensions."""
    tokenizer = build_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": TEXT,
        "intermediate_size": 4 * TEXT,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "projection_dim": SHARED,
    }
    vision = {
        "hidden_size": VISION,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
        "projection_dim": SHARED,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=SHARED))


def build_processor() -> CLIPProcessor:
    """PIL image processor at 64x64 and the world's tokenizer."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return CLIPProcessor(image_processor=images, tokenizer=build_tokenizer())


def render_groups(groups: int, rng: random.Random) -> tuple[list[Scene], Tensor]:
    """`groups` training scenes and GROUP - 1 near relatives of each, rendered: uint8 (N, 64, 64, 3)."""
    scenes: list[Scene] = []
    for _ in range(groups):
        first = sample_scene(rng, "train")
        relatives = [first]
        while len(relatives) < GROUP:
            near = changed(rng.choice(relatives), rng)
            if askable(near) and canonical(near) not in map(canonical, relatives):
                relatives.append(near)
        scenes += relatives
    pictures = [np.asarray(render(scene, rng)) for scene in scenes]
    return scenes, torch.from_numpy(np.stack(pictures))


def clear(scene: Scene) -> bool:
    """Whether a prompt can say what is seen."""
    known = scene.background != UNKNOWN and all(UNKNOWN not in (t.shape, t.colour) for t in scene.things)
    return known and len(scene.things) in (1, 2) and len(set(scene.things)) == len(scene.things)


def contrast(similarity: Tensor, match: Tensor) -> Tensor:
    """Mean cross-entropy of each picture over prompts and each prompt over pictures; (pictures, prompts).

    Every match counts as the target by turns: the others are left out of the sum.
    """
    losses = []
    for logits, right in ((similarity, match), (similarity.T, match.T)):
        wrong = logits.masked_fill(right, float("-inf")).logsumexp(1)
        own = torch.logaddexp(wrong[:, None].expand_as(logits), logits) - logits
        losses.append(own[right].mean())
    return (losses[0] + losses[1]) / 2


def batch_of(seen: Seen, count: int, rng: random.Random) -> tuple[list[Scene], Tensor, list[Scene]]:
    """Seen scenes, their pixels, and the scenes of all prompts: for each the right one and a near miss."""
    chosen = [rng.randrange(len(seen.scenes)) for _ in range(count)]
    chosen.sort(key=lambda i: clear(seen.scenes[i]))  # the unclear first: they get a twin
    groups, rendered = render_groups((count - TWINS) // GROUP, rng)
    scenes = [seen.scenes[i] for i in chosen]
    wanted = [wanted_for(scene, rng, 0) for scene in scenes]
    twins = torch.from_numpy(np.stack([np.asarray(render(scene, rng)) for scene in wanted[:TWINS]]))
    scenes += [*wanted[:TWINS], *groups]
    pixels = torch.cat([seen.pixels[torch.tensor(chosen)], twins, rendered])
    wanted += [wanted_for(scene, rng, rng.choice((1, 1, 2))) for scene in scenes[:count]]
    return scenes, pixels, wanted + [swapped(s) if rng.random() < 0.5 else s for s in groups]


def matches(scenes: list[Scene], wanted: list[Scene]) -> Tensor:
    """(pictures, prompts) whether the picture shows the prompt."""
    asked = [canonical(scene) for scene in wanted]
    shown = [canonical(scene) if clear(scene) else None for scene in scenes]
    return torch.tensor([[scene == other for other in asked] for scene in shown])


def reward_loss(
    clip: CLIPModel, head: nn.Module, ids: Any, pixels: Tensor, match: Tensor, labels: Tensor
) -> Tensor:
    """Contrastive loss on (pictures, prompts) plus the classifier's."""
    out = clip(**ids, pixel_values=pixels)
    seen = head(out.vision_model_output.last_hidden_state[:, 0])
    return contrast(out.logits_per_image.float(), match) + LOOK_WEIGHT * look_loss(seen, labels)


def compile_layers(clip: Any) -> None:
    """Fuse each layer for the shapes of training (texts are padded to one length for it)."""
    clip.set_attn_implementation({"text_config": "eager", "vision_config": "eager"})
    for layer in [*clip.text_model.encoder.layers, *clip.vision_model.encoder.layers]:
        layer.compile(dynamic=False)


def export(folder: Path, to: Path) -> None:
    """Write the averaged reward of a training folder as a Hugging Face folder, fp16."""
    modules: dict[str, nn.Module] = {"clip": build_model()}
    metadata = load_average(folder, modules)
    model: Any = modules["clip"]
    model.half().save_pretrained(to)
    stamp(to / "model.safetensors", {"trained_as": "reward", **metadata_before(folder), **metadata})
    build_processor().save_pretrained(to)


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train reward`."""
    parser = argparse.ArgumentParser(prog="train reward", description=__doc__)
    add_options(parser, DEFAULTS)
    parser.add_argument("--seen", type=Path, default=Path(".train/seen"))
    parser.add_argument("--start", type=Path, help="a training folder whose reward to begin with")
    parser.add_argument("--compile", action="store_true", help="faster; needs a C++ compiler")
    parser.add_argument("--export", type=Path, help="only write the folder's state as a model here")
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    torch.set_num_threads(settings.threads)
    if options.export:
        return export(settings.folder, options.export)
    torch.manual_seed(settings.seed)
    clip, head = build_model(), nn.Linear(VISION, sum(LOOK_SIZES))
    if options.start:
        begin_with(options.start, {"clip": clip, "head": head}, settings.folder)
    if options.compile:
        compile_layers(clip)
    trainer = Trainer(settings, {"clip": clip, "head": head})
    seen, tokenizer = load_seen(options.seen), build_tokenizer()

    def loss_of(step: int) -> Tensor:
        rng = random.Random(step_seed(settings, step))
        scenes, pixels, wanted = batch_of(seen, settings.batch, rng)
        ids = tokenizer([random_caption(scene, rng) for scene in wanted], return_tensors="pt", **PADDING)
        labels = torch.tensor([label(scene) for scene in scenes])
        with torch.autocast(settings.device, dtype=torch.bfloat16):
            return reward_loss(clip, head, ids, augment(pixels), matches(scenes, wanted), labels)

    trainer.run(loss_of)

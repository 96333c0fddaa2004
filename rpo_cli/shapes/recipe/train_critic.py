"""Trains the critic, an Idefics3 of 1.4 M parameters: what a picture shows and how it misses its prompt.

First its eyes alone, by plain classifiers (`look`), then the whole model on conversations (`critic_talks`).
Pictures come from `.train/seen` (`train seen`); sets that appear there later are used after a restart.
"""

from __future__ import annotations

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from rpo_cli.shapes.recipe.critic_talks import IMAGE_TOKENS, talk, vocabulary_texts
from rpo_cli.shapes.recipe.critic_tokenizer import ASSISTANT, END, IMAGE, build_tokenizer
from rpo_cli.shapes.recipe.export import stamp
from rpo_cli.shapes.recipe.look import LOOK_SIZES, label, look_loss
from rpo_cli.shapes.recipe.seen import Seen, augment, load_seen
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

DEFAULTS = Settings(Path(".train/critic"), minutes=110.0, batch=32, lr=1.2e-3, decay=0.998)
SIDE, PATCH, SCALE = 64, 8, 2
VISION, TEXT = 96, 128
KINDS = ("two", "ask", "two", "ask", "one", "two", "ask", "two", "ask", "two")
ASKED_TIMES = 2  # yes/no conversations are short: so many times the batch
WIDTHS = {"two": 256, "one": 256, "ask": 72}  # tokens; seldom more, and then the end is left out
LOOK_BATCH, LOOK_WEIGHT = 64, 0.4
IGNORED = -100


def build_config(tokenizer: PreTrainedTokenizerFast) -> Idefics3Config:
    """4 vision layers of width 96 on 8x8 patches, 16 image tokens, 4 text layers of width 128."""
    vision = {
        "hidden_size": VISION,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )
    return Idefics3Config(
        vision_config=vision,
        text_config=text.to_dict(),
        scale_factor=SCALE,
        image_token_id=tokenizer.get_vocab()[IMAGE],
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=True,
    )


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Idefics3Processor:
    """PIL image processor at 64x64 without splitting, and the tokenizer with its chat template."""
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE},
        max_image_size={"longest_edge": SIDE},
        do_image_splitting=False,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    return Idefics3Processor(
        images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=tokenizer.chat_template
    )


def build_modules(tokenizer: PreTrainedTokenizerFast) -> dict[str, nn.Module]:
    """The critic, with fresh weights."""
    return {"critic": Idefics3ForConditionalGeneration(build_config(tokenizer))}


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str], width: int) -> tuple[Tensor, Tensor]:
    """(ids, labels), both (N, width), padded on the right; labels: what the assistant says."""
    rows = tokenizer(texts, add_special_tokens=False)["input_ids"]
    rows = [row[:width] for row in rows]
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
    begin, end = (tokenizer.get_vocab()[token] for token in (ASSISTANT, END))
    begun, ended = ids.eq(begin).cumsum(1), ids.eq(end).cumsum(1) - ids.eq(end).long()
    speaking = (2 * begun - 1 == ended) & ids.ne(begin)
    return ids, torch.where(speaking, ids, IGNORED)


def talk_loss(critic: Any, ids: Tensor, labels: Tensor, images: Tensor) -> Tensor:
    """Mean cross-entropy of the assistant's tokens; ids (N, T), images as `features_of` gives them."""
    core = critic.model
    embedded = core.inputs_merger(ids, core.get_input_embeddings()(ids), images)
    states = core.text_model(inputs_embeds=embedded, use_cache=False).last_hidden_state
    learned = labels[:, 1:] != IGNORED
    logits = critic.lm_head(states[:, :-1][learned])
    return F.cross_entropy(logits.float(), labels[:, 1:][learned])


def draw(seen: Seen, count: int, rng: random.Random) -> tuple[list[int], Tensor]:
    """Random pictures: their indices and augmented pixels."""
    chosen = [rng.randrange(len(seen.scenes)) for _ in range(count)]
    return chosen, augment(seen.pixels[torch.tensor(chosen)])


def compile_layers(critic: Any) -> None:
    """Fuse each layer for the few shapes of training: 1.8 times faster on one AMX core."""
    critic.set_attn_implementation({"text_config": "eager", "vision_config": "eager"})
    for layer in [*critic.model.text_model.layers, *critic.model.vision_model.encoder.layers]:
        layer.compile(dynamic=False)


def features_of(critic: Any, pixels: Tensor) -> Tensor:
    """What the text model gets of pictures (N, 3, 64, 64): (N, IMAGE_TOKENS, TEXT)."""
    features: Tensor = critic.model.get_image_features(pixels[:, None]).pooler_output
    return features


def build_head() -> nn.Module:
    """The classifier that the eyes learn with; it is not shipped."""
    return nn.Sequential(nn.Flatten(), nn.Linear(IMAGE_TOKENS * TEXT, sum(LOOK_SIZES)))


def train_eyes(settings: Settings, critic: Any, seen: Seen) -> None:
    """Vision tower and connector on plain classification."""
    core, head = critic.model, build_head()
    trainer = Trainer(settings, {"vision": core.vision_model, "connector": core.connector, "head": head})
    labels = torch.tensor([label(scene) for scene in seen.scenes])

    def loss_of(step: int) -> Tensor:
        chosen, pixels = draw(seen, settings.batch, random.Random(step_seed(settings, step)))
        with torch.autocast(settings.device, dtype=torch.bfloat16):
            return look_loss(head(features_of(critic, pixels)), labels[torch.tensor(chosen)])

    trainer.run(loss_of)
    trainer.use_average()


def train_talk(settings: Settings, critic: Any, tokenizer: PreTrainedTokenizerFast, seen: Seen) -> None:
    """The whole model on conversations, one kind a step; its eyes also on LOOK_BATCH pictures as before."""
    head = build_head()
    trainer = Trainer(settings, {"critic": critic, "head": head})
    classes = torch.tensor([label(scene) for scene in seen.scenes])

    def loss_of(step: int) -> Tensor:
        rng = random.Random(step_seed(settings, step))
        kind = KINDS[step % len(KINDS)]
        told = settings.batch * (ASKED_TIMES if kind == "ask" else 1)
        chosen, pixels = draw(seen, max(LOOK_BATCH, told), rng)
        talks = [talk(kind, seen.scenes[i], rng) for i in chosen[:told]]
        ids, labels = encode(tokenizer, talks, WIDTHS[kind])
        with torch.autocast(settings.device, dtype=torch.bfloat16):
            images = features_of(critic, pixels)
            looked = look_loss(head(images), classes[torch.tensor(chosen)])
            return talk_loss(critic, ids, labels, images[:told]) + LOOK_WEIGHT * looked

    trainer.run(loss_of)


def export(folder: Path, to: Path) -> None:
    """Write the averaged critic of a training folder as a Hugging Face folder, fp16."""
    tokenizer = build_tokenizer(vocabulary_texts())
    modules = build_modules(tokenizer)
    metadata = load_average(folder, modules)
    critic: Any = modules["critic"]
    critic.tie_weights()
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    critic.generation_config = GenerationConfig(do_sample=False, **ends)
    critic.half().save_pretrained(to)
    stamp(to / "model.safetensors", {"trained_as": "critic", **metadata_before(folder), **metadata})
    build_processor(tokenizer).save_pretrained(to)


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train critic`."""
    parser = argparse.ArgumentParser(prog="train critic", description=__doc__)
    add_options(parser, DEFAULTS)
    parser.add_argument("--seen", type=Path, default=Path(".train/seen"))
    parser.add_argument("--eye-minutes", type=float, default=4.0)
    parser.add_argument("--start", type=Path, help="a training folder whose critic to begin with")
    parser.add_argument("--compile", action="store_true", help="faster; needs a C++ compiler")
    parser.add_argument("--export", type=Path, help="only write the folder's state as a model here")
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    torch.set_num_threads(settings.threads)
    if options.export:
        return export(settings.folder, options.export)
    torch.manual_seed(settings.seed)
    tokenizer = build_tokenizer(vocabulary_texts())
    critic = build_modules(tokenizer)["critic"]
    seen = load_seen(options.seen)
    if options.start:
        begin_with(options.start, {"critic": critic}, settings.folder)
    elif not (settings.folder / "state").is_dir():
        eyes = replace(settings, folder=settings.folder / "eyes", minutes=options.eye_minutes, batch=64)
        train_eyes(eyes, critic, seen)
    if options.compile:
        compile_layers(critic)
    train_talk(settings, critic, tokenizer, seen)

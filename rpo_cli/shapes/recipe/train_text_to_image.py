"""Trains the text-to-image denoiser and its text encoder, jointly, on latents of training scenes."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from rpo_cli.shapes.grammar import CAPTION_VARIANTS, Scene, caption, sample_scene, swapped
from rpo_cli.shapes.recipe import diffusion
from rpo_cli.shapes.recipe.latents import cached_latents, draw_seed
from rpo_cli.shapes.recipe.tokenizer import build_tokenizer
from rpo_cli.shapes.recipe.train_vae import load_vae
from rpo_cli.shapes.recipe.training import (
    Settings,
    Trainer,
    add_options,
    begin_with,
    settings_of,
    step_seed,
)
from rpo_cli.shapes.recipe.wrong_captions import mistold
from rpo_cli.shapes.render import render

DEFAULTS = Settings(Path(".train/text-to-image"), steps=14_000, batch=32, lr=8e-4, decay=0.998)
TWO_SHARE = 0.65  # of training scenes; measured on equal shares, but two things take longer to learn
CAPTION_DROP = 0.1
MISTOLD_SHARE = 0.35  # of the captions: what the model errs in, and the line finds (see `mistold`)
SCENES = 30_000
FINE_SHARE = 0.35  # of the draws, from scenes with a small star or triangle: corners are learned last


def training_scene(rng: random.Random) -> Scene:
    """A scene of the training split."""
    return sample_scene(rng, "train", 2 if rng.random() < TWO_SHARE else 1)


def training_picture(rng: random.Random) -> list[Image.Image]:
    """The one picture of a draw; starts with the same draws as `training_scene`."""
    return [render(training_scene(rng), rng)]


def training_caption(scene: Scene, rng: random.Random) -> str:
    """A caption in random words and order, at times mistaken, or none (for guidance)."""
    if rng.random() < CAPTION_DROP:
        return ""
    told = mistold(scene, rng) if rng.random() < MISTOLD_SHARE else scene
    said = swapped(told) if rng.random() < 0.5 else told
    return caption(said, rng.randrange(CAPTION_VARIANTS))


def is_fine(scene: Scene) -> bool:
    """Whether the scene has a thing that takes many pixels' care: small and with sharp corners."""
    return any(thing.size == "small" and thing.shape in ("star", "triangle") for thing in scene.things)


def build_modules() -> dict[str, nn.Module]:
    """Fresh denoiser and text encoder."""
    return {
        "unet": diffusion.build_unet().to(memory_format=torch.channels_last),
        "text_encoder": diffusion.build_text_encoder(build_tokenizer()),
    }


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train text-to-image`."""
    parser = argparse.ArgumentParser(prog="train text-to-image", description=__doc__)
    add_options(parser, DEFAULTS)
    parser.add_argument("--vae", type=Path, default=Path(".train/vae"))
    parser.add_argument("--scenes", type=int, default=SCENES)
    parser.add_argument("--start", type=Path, help="a training folder whose weights to begin with")
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    vae = load_vae(options.vae).to(settings.device)
    (latents,) = cached_latents(
        vae, options.vae / "scenes", options.scenes, training_picture, settings.seed
    )
    seeds = [draw_seed(settings.seed, i) for i in range(options.scenes)]
    scenes = [training_scene(random.Random(seed)) for seed in seeds]
    fine = [index for index, scene in enumerate(scenes) if is_fine(scene)]
    modules = {name: module.to(settings.device) for name, module in build_modules().items()}
    if options.start:
        begin_with(options.start, modules, settings.folder)
    trainer = Trainer(settings, modules)
    tokenizer, scheduler = build_tokenizer(), diffusion.build_scheduler()
    scale = vae.config.scaling_factor

    def loss_of(step: int) -> Tensor:
        rng = random.Random(step_seed(settings, step))
        chosen = [
            rng.choice(fine) if rng.random() < FINE_SHARE else rng.randrange(len(scenes))
            for _ in range(settings.batch)
        ]
        captions = [training_caption(scenes[i], rng) for i in chosen]
        clean = (latents.sample(torch.tensor(chosen)) * scale).to(settings.device)
        noise = torch.randn_like(clean)
        timesteps = diffusion.draw_timesteps(len(chosen)).to(settings.device)
        noisy = scheduler.add_noise(clean, noise, timesteps).contiguous(memory_format=torch.channels_last)
        ids = diffusion.tokens(tokenizer, captions).to(settings.device)
        states = modules["text_encoder"](ids)[0]
        predicted = modules["unet"](noisy, timesteps, states).sample
        return diffusion.velocity_loss(scheduler, predicted, clean, noise, timesteps)

    trainer.run(loss_of)

"""Trains the instruct-pix2pix denoiser and its own text encoder, from the text-to-image weights.

Source of the method: InstructPix2Pix, Brooks et al. 2022, arXiv:2211.09800 (8-channel input, image
and text dropped apart and together for the two guidances). Image latents go in unscaled, as the
diffusers pipeline has them.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rpo_cli.shapes.recipe import diffusion, train_text_to_image
from rpo_cli.shapes.recipe.latents import Latents, cached_latents, draw_seed
from rpo_cli.shapes.recipe.tokenizer import build_tokenizer
from rpo_cli.shapes.recipe.train_vae import load_vae
from rpo_cli.shapes.recipe.training import (
    Settings,
    Trainer,
    add_options,
    load_average,
    settings_of,
    step_seed,
)
from rpo_cli.shapes.recipe.triplets import (
    Triplet,
    instruction,
    load_generated,
    rendered_pictures,
    rendered_triplet,
)

DEFAULTS = Settings(Path(".train/editor"), steps=8_000, batch=32, lr=8e-4, decay=0.998)
DROP = 0.05  # text alone, image alone, and both: 5 % each
TRIPLETS = 40_000
GENERATED_SHARE = 0.4  # of every batch, once there are flawed pictures


def build_modules() -> dict[str, nn.Module]:
    """Fresh 8-channel denoiser and text encoder."""
    channels = 2 * diffusion.LATENT_CHANNELS
    return {
        "unet": diffusion.build_unet(channels).to(memory_format=torch.channels_last),
        "text_encoder": diffusion.build_text_encoder(build_tokenizer()),
    }


def from_text_to_image(folder: Path, scale: float) -> dict[str, nn.Module]:
    """Modules that start from averaged text-to-image weights; the image half of `conv_in` is a
    scaled copy.
    """
    source = train_text_to_image.build_modules()
    load_average(folder, source)
    modules = build_modules()
    weights = source["unet"].state_dict()
    first = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([first, first * scale], dim=1)
    modules["unet"].load_state_dict(weights)
    modules["text_encoder"].load_state_dict(source["text_encoder"].state_dict())
    return modules


Sampler = Callable[[random.Random, int], tuple[list[str], Tensor, Tensor]]


def sampler_of(triplets: list[Triplet], before: Latents, after: Latents) -> Sampler:
    """A function (rng, count) -> (instructions, image latents, target latents), both unscaled."""

    def sample(rng: random.Random, count: int) -> tuple[list[str], Tensor, Tensor]:
        chosen = [rng.randrange(len(triplets)) for _ in range(count)]
        texts = [instruction(triplets[i], rng) for i in chosen]
        index = torch.tensor(chosen)
        return texts, before.mean[index].float(), after.sample(index)

    return sample


def rendered_sampler(vae: Any, folder: Path, count: int, seed: int) -> Sampler:
    """Samples rendered triplets, encoded once."""
    before, after = cached_latents(vae, folder, count, rendered_pictures, seed)
    triplets = [rendered_triplet(random.Random(draw_seed(seed, i))) for i in range(count)]
    return sampler_of(triplets, before, after)


def drop_conditions(rng: random.Random, texts: list[str], image: Tensor) -> tuple[list[str], Tensor]:
    """Leave out the text, the image or both for some rows, so that both guidances can be had."""
    kept = list(texts)
    for row in range(len(kept)):
        draw = rng.random()
        if draw < 2 * DROP:
            kept[row] = ""
        if DROP <= draw < 3 * DROP:
            image[row] = 0.0
    return kept, image


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train editor`."""
    parser = argparse.ArgumentParser(prog="train editor", description=__doc__)
    add_options(parser, DEFAULTS)
    parser.add_argument("--vae", type=Path, default=Path(".train/vae"))
    parser.add_argument("--start", type=Path, default=Path(".train/text-to-image"))
    parser.add_argument("--triplets", type=int, default=TRIPLETS)
    parser.add_argument("--generated", type=Path, default=Path(".train/generated"))
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    vae = load_vae(options.vae).to(settings.device)
    scale = vae.config.scaling_factor
    rendered = rendered_sampler(vae, options.vae / "triplets", options.triplets, settings.seed)
    generated = load_generated(options.generated)
    seen = sampler_of(*generated) if generated else None
    fresh = not (settings.folder / "state").is_dir()
    modules = from_text_to_image(options.start, scale) if fresh else build_modules()
    modules = {name: module.to(settings.device) for name, module in modules.items()}
    trainer = Trainer(settings, modules)
    trainer.run(_loss_of(settings, modules, rendered, seen, scale))


def _loss_of(
    settings: Settings,
    modules: dict[str, nn.Module],
    rendered: Sampler,
    seen: Sampler | None,
    scale: float,
) -> Callable[[int], Tensor]:
    tokenizer, scheduler = build_tokenizer(), diffusion.build_scheduler()
    from_seen = round(settings.batch * GENERATED_SHARE) if seen else 0

    def batch(rng: random.Random) -> tuple[list[str], Tensor, Tensor]:
        texts, image, target = rendered(rng, settings.batch - from_seen)
        if seen is None:
            return texts, image, target
        more_texts, more_image, more_target = seen(rng, from_seen)
        return texts + more_texts, torch.cat([image, more_image]), torch.cat([target, more_target])

    def loss_of(step: int) -> Tensor:
        rng = random.Random(step_seed(settings, step))
        texts, image, target = batch(rng)
        texts, image = drop_conditions(rng, texts, image)
        clean, image = (target * scale).to(settings.device), image.to(settings.device)
        noise = torch.randn_like(clean)
        timesteps = diffusion.draw_timesteps(len(texts)).to(settings.device)
        noisy = scheduler.add_noise(clean, noise, timesteps)
        both = torch.cat([noisy, image], dim=1).contiguous(memory_format=torch.channels_last)
        states = modules["text_encoder"](diffusion.tokens(tokenizer, texts).to(settings.device))[0]
        predicted = modules["unet"](both, timesteps, states).sample
        return diffusion.velocity_loss(scheduler, predicted, clean, noise, timesteps)

    return loss_of

"""Trains the autoencoder's decoder further, on latents as the denoiser leaves them.

A denoiser this small gets corners slightly wrong. Clean latents are made noisy up to a middling timestep
and denoised again by the text-to-image model in a few steps (Meng et al. 2021, arXiv:2108.01073): what is
shown stays, the details are the model's own; the decoder learns to draw the clean picture from them. The
encoder, and so every latent that a denoiser was trained on, stays as it is.
"""

from __future__ import annotations

import argparse
import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rpo_cli.shapes.grammar import CAPTION_VARIANTS, caption
from rpo_cli.shapes.recipe import diffusion, train_text_to_image
from rpo_cli.shapes.recipe.tokenizer import build_tokenizer
from rpo_cli.shapes.recipe.train_vae import edge_map, load_vae, to_tensor
from rpo_cli.shapes.recipe.training import (
    Settings,
    Trainer,
    add_options,
    begin_with,
    load_average,
    settings_of,
    step_seed,
)
from rpo_cli.shapes.render import render

DEFAULTS = Settings(Path(".train/vae-decoder"), minutes=8.0, batch=16, lr=6e-4, decay=0.99, warmup=50)
FROM = (80, 380)  # the timestep that latents are made noisy to, of 1000
STEPS = 4  # of DDIM, back from there
CLEAN_SHARE = 0.25  # of a batch: latents as encoded, so that reconstructions stay good


@torch.no_grad()
def denoised_again(unet: Any, scheduler: Any, clean: Tensor, states: Tensor, start: int) -> Tensor:
    """Latents (N, 4, 16, 16), scaled, after noise up to timestep `start` and STEPS of DDIM (η = 0) back."""
    times = torch.linspace(start, 0, STEPS + 1).round().long()
    noisy = scheduler.add_noise(clean, torch.randn_like(clean), times[:1].expand(len(clean)))
    for now, after in itertools.pairwise(times):
        velocity = unet(noisy.contiguous(memory_format=torch.channels_last), now, states).sample
        alpha, sigma = _levels(scheduler, now)
        made, noise = alpha * noisy - sigma * velocity, sigma * noisy + alpha * velocity
        alpha, sigma = _levels(scheduler, after) if after > 0 else (1.0, 0.0)
        noisy = alpha * made + sigma * noise
    return noisy


def _levels(scheduler: Any, time: Tensor) -> tuple[float, float]:
    kept = float(scheduler.alphas_cumprod[time])
    return kept**0.5, (1 - kept) ** 0.5


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train decoder`."""
    parser = argparse.ArgumentParser(prog="train decoder", description=__doc__)
    add_options(parser, DEFAULTS)
    parser.add_argument("--vae", type=Path, default=Path(".train/vae"))
    parser.add_argument("--model", type=Path, default=Path(".train/text-to-image"))
    options = parser.parse_args(arguments)
    settings = settings_of(options)
    torch.set_num_threads(settings.threads)
    vae = load_vae(options.vae).requires_grad_(False)
    learned = nn.ModuleDict({"decoder": vae.decoder, "post_quant_conv": vae.post_quant_conv})
    learned.requires_grad_(True).train()
    begin_with(options.vae, {"vae": learned}, settings.folder)
    denoiser = train_text_to_image.build_modules()
    load_average(options.model, denoiser)
    tokenizer, scheduler = build_tokenizer(), diffusion.build_scheduler()
    trainer = Trainer(settings, {"vae": learned})

    def loss_of(step: int) -> Tensor:
        rng = random.Random(step_seed(settings, step))
        scenes = [train_text_to_image.training_scene(rng) for _ in range(settings.batch)]
        pictures = to_tensor(np.stack([np.asarray(render(scene, rng)) for scene in scenes]))
        texts = [caption(scene, rng.randrange(CAPTION_VARIANTS)) for scene in scenes]
        with torch.no_grad():
            clean = vae.encode(pictures).latent_dist.sample() * vae.config.scaling_factor
            states = denoiser["text_encoder"](diffusion.tokens(tokenizer, texts))[0]
        made = denoised_again(denoiser["unet"], scheduler, clean, states, rng.randrange(*FROM))
        kept = round(CLEAN_SHARE * settings.batch)
        latents = torch.cat([clean[:kept], made[kept:]]) / vae.config.scaling_factor
        error = (vae.decode(latents).sample - pictures).abs()
        weight = edge_map(pictures)
        return ((error + 2 * error.square()) * weight).mean() / weight.mean()

    trainer.run(loss_of)
    trainer.use_average()
    vae.eval().save_pretrained(settings.folder / "export", safe_serialization=True)

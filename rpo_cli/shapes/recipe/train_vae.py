"""Trains the autoencoder both pipelines share: 64x64 RGB to 16x16 latents of 4 channels, no
attention.

Mostly 32x32 crops about the things (the flat background teaches little), then full frames, so that
what bounds the rest, the small shapes, gets the work. Latents carry a little noise in training, so
that near misses decode cleanly.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from rpo_cli.shapes.grammar import sample_scene
from rpo_cli.shapes.recipe.training import (
    Settings,
    Trainer,
    add_options,
    fraction_done,
    settings_of,
    step_seed,
)
from rpo_cli.shapes.render import SIDE, draw, place

DEFAULTS = Settings(Path(".train/vae"), steps=6000, batch=32, lr=2e-3, decay=0.995)
CROP = 32
FULL_FRAMES_FROM = 0.75  # fraction of the run after which batches are full frames (a quarter of the size)
KL_WEIGHT = 1e-4
EDGE_WEIGHT = 3.0


def build_vae() -> Any:
    """A fresh autoencoder, about 0.6 M parameters."""
    return AutoencoderKL(
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIDE,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )


def load_vae(folder: Path) -> Any:
    """The averaged autoencoder of a training folder, with its measured scaling factor."""
    return AutoencoderKL.from_pretrained(folder / "export", use_safetensors=True).eval()


def to_tensor(pixels: np.ndarray) -> Tensor:
    """uint8 pictures (N, H, W, 3) as float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def frames(rng: random.Random, count: int, crop: int | None) -> Tensor:
    """`count` pictures of training scenes, (N, 3, H, W); with `crop`, squares of that side about
    one of the things.
    """
    pictures = []
    for _ in range(count):
        scene = sample_scene(rng, "train")
        layout = place(scene, rng)
        picture = np.asarray(draw(scene, layout))
        if crop:
            at = rng.choice(layout.placements)
            left = int(min(max(at.x - crop / 2 + rng.uniform(-8, 8), 0), SIDE - crop)) // 4 * 4
            top = int(min(max(at.y - crop / 2 + rng.uniform(-8, 8), 0), SIDE - crop)) // 4 * 4
            picture = picture[top : top + crop, left : left + crop]
        pictures.append(picture)
    return to_tensor(np.stack(pictures))


def edge_map(pictures: Tensor) -> Tensor:
    """1 + EDGE_WEIGHT where the picture changes within two pixels, else 1; (N, 1, H, W)."""
    wide = F.max_pool2d(pictures, 5, 1, 2) + F.max_pool2d(-pictures, 5, 1, 2)
    return 1.0 + EDGE_WEIGHT * (wide.amax(1, keepdim=True) > 0.1).float()


def vae_loss(vae: Any, pictures: Tensor) -> Tensor:
    """L1 + 2 MSE, weighted about edges, plus a small KL (per latent element)."""
    posterior = vae.encode(pictures).latent_dist
    made = vae.decode(posterior.sample()).sample.float()
    weight = edge_map(pictures)
    error = (made - pictures).abs()
    fit = ((error + 2 * error.square()) * weight).mean() / weight.mean()
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).float().mean()
    return fit + KL_WEIGHT * kl


@torch.no_grad()
def measure_scale(vae: Any, count: int = 256) -> float:
    """1 / standard deviation of the latents of training scenes."""
    pictures = frames(random.Random(1), count, None)
    return float(1.0 / vae.encode(pictures).latent_dist.sample().std())


def export(trainer: Trainer, vae: Any) -> None:
    """Write the averaged autoencoder with its scaling factor to FOLDER/export, float32."""
    trainer.use_average()
    vae.eval().to("cpu")
    vae.register_to_config(scaling_factor=round(measure_scale(vae), 5))
    vae.save_pretrained(trainer.settings.folder / "export", safe_serialization=True)


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train vae`."""
    parser = argparse.ArgumentParser(prog="train vae", description=__doc__)
    add_options(parser, DEFAULTS)
    settings = settings_of(parser.parse_args(arguments))
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    vae = build_vae().to(settings.device, memory_format=torch.channels_last)
    trainer = Trainer(settings, {"vae": vae})

    def loss_of(step: int) -> Tensor:
        rng = random.Random(step_seed(settings, step))
        full = fraction_done(settings, trainer.progress) > FULL_FRAMES_FROM
        pictures = frames(rng, settings.batch // 2 if full else settings.batch, None if full else CROP)
        pictures = pictures.to(settings.device, memory_format=torch.channels_last)
        with torch.autocast(settings.device, dtype=torch.bfloat16):
            return vae_loss(vae, pictures)

    trainer.run(loss_of)
    export(trainer, vae)

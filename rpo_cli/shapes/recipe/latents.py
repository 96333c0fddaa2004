"""Training scenes as latents, encoded once and kept on disk: the denoisers never see a pixel.

The cache is rebuilt when missing; it depends on (seed, count) and on the autoencoder, whose folder
it stands beside.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from rpo_cli.shapes.recipe.train_vae import to_tensor

ENCODE_BATCH = 64
PER_FILE = 4000  # pictures a cache file: about 16 MB


@dataclass(frozen=True)
class Latents:
    """Posterior means and standard deviations, float16 (N, 4, 16, 16), not scaled."""

    mean: Tensor
    std: Tensor

    def sample(self, index: Tensor) -> Tensor:
        """Posterior samples of some pictures, float32, from torch's global generator."""
        mean, std = self.mean[index].float(), self.std[index].float()
        return mean + std * torch.randn_like(mean)


@torch.no_grad()
def encode(vae: Any, pictures: Sequence[Image.Image]) -> tuple[Tensor, Tensor]:
    """(means, standard deviations) of 64x64 pictures, float16 on the CPU."""
    pixels = to_tensor(np.stack([np.asarray(picture) for picture in pictures]))
    pixels = pixels.to(vae.device, memory_format=torch.channels_last)
    posterior = vae.encode(pixels).latent_dist
    return posterior.mean.half().cpu(), posterior.std.half().cpu()


def cached_latents(
    vae: Any,
    folder: Path,
    count: int,
    pictures_of: Callable[[random.Random], list[Image.Image]],
    seed: int,
) -> list[Latents]:
    """Latents of `count` draws of `pictures_of`, one `Latents` per picture of a draw.

    Draw i uses random.Random(seed * 10**7 + i), so the scenes of the draws can be had again without
    the pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, count, PER_FILE):
        file = folder / f"{seed}-{start:07d}.safetensors"
        if not file.is_file():
            draws = range(start, min(start + PER_FILE, count))
            save_file(_encode_draws(vae, draws, pictures_of, seed), file)
        parts.append(load_file(file))
    width = len(parts[0]) // 2
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return [Latents(joined[f"mean{i}"], joined[f"std{i}"]) for i in range(width)]


def draw_seed(seed: int, index: int) -> int:
    """The seed of one draw."""
    return seed * 10**7 + index


def _encode_draws(
    vae: Any,
    draws: range,
    pictures_of: Callable[[random.Random], list[Image.Image]],
    seed: int,
) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {}
    for start in range(draws.start, draws.stop, ENCODE_BATCH):
        batch = [
            pictures_of(random.Random(draw_seed(seed, i)))
            for i in range(start, min(start + ENCODE_BATCH, draws.stop))
        ]
        for place, pictures in enumerate(zip(*batch, strict=True)):
            mean, std = encode(vae, pictures)
            found.setdefault(f"mean{place}", []).append(mean)
            found.setdefault(f"std{place}", []).append(std)
    return {key: torch.cat(values).contiguous() for key, values in found.items()}

"""Every random choice of training as a pure function of (seed, step, position): there is no RNG state.

So a resumed run makes the choices an undisturbed one would have made, and how a step is split into
forward passes changes nothing. A draw belongs to a pair: winner and loser share all of it.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from rpo_cli.records import row_seed
from rpo_cli.train.diffusion import seeded


@dataclass(frozen=True)
class Draw:
    """What chance decides about one use of one pair.

    Attributes:
        pair: index of the pair in its split.
        noise: ε, (C, H, W) float32.
        posterior: the VAE's sampling noise, (C, H, W) float32: x_0 = mean + std · posterior.
        flip: mirror both pictures.
        drop_caption: train this pair on the empty caption.
    """

    pair: int
    timestep: int
    noise: Tensor
    posterior: Tensor
    flip: bool
    drop_caption: bool


@dataclass(frozen=True)
class DrawSettings:
    """What the draws of one split depend on, beside step and position."""

    seed: int
    pairs: int
    timesteps: int
    shape: tuple[int, int, int]
    flip: bool
    caption_dropout: float


def training_draw(settings: DrawSettings, step: int, position: int, global_batch: int) -> Draw:
    """The draw at `position` in [0, global_batch) of optimiser step `step`.

    Pairs come in epochs: each is used once before any is used again, in an order that is new every epoch.
    """
    epoch, place = divmod(step * global_batch + position, settings.pairs)
    return _draw(
        settings, epoch_order(settings.seed, epoch, settings.pairs)[place], ("train", step, position)
    )


def validation_draw(settings: DrawSettings, item: int) -> Draw:
    """The draw of validation item `item`: always the same, never mirrored or captionless."""
    fixed = DrawSettings(settings.seed, settings.pairs, settings.timesteps, settings.shape, False, 0.0)
    return _draw(fixed, item % settings.pairs, ("validation", item))


def _draw(settings: DrawSettings, pair: int, name: tuple[str | int, ...]) -> Draw:
    generator = seeded(row_seed(settings.seed, *name))
    flip, drop = torch.rand(2, generator=generator).tolist()
    return Draw(
        pair=pair,
        timestep=int(torch.randint(settings.timesteps, (1,), generator=generator)),
        noise=torch.randn(settings.shape, generator=generator),
        posterior=torch.randn(settings.shape, generator=generator),
        flip=settings.flip and flip < 0.5,
        drop_caption=drop < settings.caption_dropout,
    )


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, pairs: int) -> list[int]:
    """A permutation of range(pairs)."""
    order: list[int] = torch.randperm(pairs, generator=seeded(row_seed(seed, "epoch", epoch))).tolist()
    return order

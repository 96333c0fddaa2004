"""Every random choice of training as a pure function of (seed, step, position): there is no RNG state.

So a resumed run makes the choices an undisturbed one would have made, and how a step is split into
forward passes changes nothing. A draw belongs to a pair: winner and loser share all of it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

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
        use: which of a pair's fixed draws it is; None: drawn for this step and position alone.
        drop_caption: train this pair on the empty caption.
    """

    pair: int
    timestep: int
    noise: Tensor
    posterior: Tensor
    flip: bool
    drop_caption: bool
    use: int | None = None


@dataclass(frozen=True)
class DrawSettings:
    """What the draws of one split depend on, beside step and position.

    Attributes:
        pairs: items of the split.
        first, last: the band of timesteps, both inclusive; last None: up to the noisiest.
        discount: γ; a timestep's density is γ^(50·(1 − t/T)), uniform at 1.
        group: consecutive positions that share their timestep, or timestep and noise, as `shared` says.
        uses: fixed draws of a pair, taken in turn epoch by epoch; 0: every use has its own.
    """

    seed: int
    pairs: int
    timesteps: int
    shape: tuple[int, int, int]
    flip: bool
    caption_dropout: float
    first: int = 0
    last: int | None = None
    discount: float = 1.0
    group: int = 1
    shared: Literal["none", "timestep", "noise"] = "none"
    uses: int = 0


def training_draw(settings: DrawSettings, step: int, position: int, global_batch: int) -> Draw:
    """The draw at `position` in [0, global_batch) of optimiser step `step`."""
    pair = drawn_pair(settings, step, position, global_batch)
    if settings.uses:
        epoch = (step * global_batch + position) // settings.pairs
        return fixed_draw(settings, pair, epoch % settings.uses)
    return _draw(
        settings, pair, ("train", step, position), ("train group", step, position // settings.group)
    )


def fixed_draw(settings: DrawSettings, pair: int, use: int) -> Draw:
    """Draw `use` of a pair: the same at every step and position. No group shares it."""
    alone = replace(settings, group=1, shared="none")
    return replace(_draw(alone, pair, ("fixed", pair, use), ()), use=use)


def drawn_pair(settings: DrawSettings, step: int, position: int, global_batch: int) -> int:
    """The pair of a draw.

    Pairs come in epochs: each is used once before any is used again, in an order that is new every epoch.
    """
    epoch, place = divmod(step * global_batch + position, settings.pairs)
    return epoch_order(settings.seed, epoch, settings.pairs)[place]


def validation_draw(settings: DrawSettings, item: int) -> Draw:
    """The draw of validation item `item`: always the same, never mirrored, captionless or discounted."""
    fixed = replace(settings, flip=False, caption_dropout=0.0, discount=1.0)
    group = ("validation group", item // settings.group)
    return _draw(fixed, item % settings.pairs, ("validation", item), group)


def _draw(
    settings: DrawSettings, pair: int, name: tuple[str | int, ...], group: tuple[str | int, ...]
) -> Draw:
    generator = seeded(row_seed(settings.seed, *name))
    flip, drop = torch.rand(2, generator=generator).tolist()
    timestep = _timestep(settings, generator)
    noise = torch.randn(settings.shape, generator=generator)
    posterior = torch.randn(settings.shape, generator=generator)
    if settings.shared != "none":
        common = seeded(row_seed(settings.seed, *group))
        timestep = _timestep(settings, common)
        if settings.shared == "noise":
            noise = torch.randn(settings.shape, generator=common)
    return Draw(
        pair=pair,
        timestep=timestep,
        noise=noise,
        posterior=posterior,
        flip=settings.flip and flip < 0.5,
        drop_caption=drop < settings.caption_dropout,
    )


def _timestep(settings: DrawSettings, generator: torch.Generator) -> int:
    last = settings.timesteps - 1 if settings.last is None else settings.last
    if settings.discount == 1:
        return settings.first + int(torch.randint(last - settings.first + 1, (1,), generator=generator))
    cumulated = _cumulated(settings.first, last, settings.timesteps, settings.discount)
    place = torch.rand(1, generator=generator, dtype=torch.float64) * cumulated[-1]
    return settings.first + int(
        torch.searchsorted(cumulated, place, right=True).clamp(max=last - settings.first)
    )


@lru_cache(maxsize=2)
def _cumulated(first: int, last: int, timesteps: int, discount: float) -> Tensor:
    """Running sum of γ^(50·(1 − t/T)) over the band; 50 denoising steps, as in arXiv:2402.08265."""
    times = torch.arange(first, last + 1, dtype=torch.float64)
    return torch.cumsum(discount ** (50 * (1 - times / timesteps)), dim=0)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, pairs: int) -> list[int]:
    """A permutation of range(pairs)."""
    order: list[int] = torch.randperm(pairs, generator=seeded(row_seed(seed, "epoch", epoch))).tolist()
    return order

"""Draws and cached tensors → what one forward pass takes, and the errors that come out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rpo_cli.train.cache import Cache
from rpo_cli.train.data import Pair
from rpo_cli.train.diffusion import NoiseSchedule, add_noise, image_errors, target
from rpo_cli.train.draws import Draw
from rpo_cli.train.families import Condition, StableDiffusion1
from rpo_cli.train.objective import Errors
from rpo_cli.train.policy import Policy


@dataclass(frozen=True)
class Batch:
    """B pairs: every tensor is (2B, ...), the winners first, then their losers in the same order."""

    noisy: Tensor
    wanted: Tensor
    timesteps: Tensor
    condition: Condition


def assemble(
    draws: Sequence[Draw], pairs: Sequence[Pair], cache: Cache, schedule: NoiseSchedule, device: str
) -> Batch:
    """Noise both sides of every drawn pair with the same t, ε, posterior sample, mirror and caption."""
    drawn = [pairs[draw.pair] for draw in draws]
    latents = [_latent(cache, pair.winner, draw) for pair, draw in zip(drawn, draws, strict=True)]
    latents += [_latent(cache, pair.loser, draw) for pair, draw in zip(drawn, draws, strict=True)]
    prompts = [
        cache.prompt("" if draw.drop_caption else pair.caption)
        for pair, draw in zip(drawn, draws, strict=True)
    ]
    clean = torch.stack(latents)
    noise = torch.stack([draw.noise for draw in draws] * 2)
    timesteps = torch.tensor([draw.timestep for draw in draws] * 2)
    return Batch(
        noisy=_channels_last(add_noise(schedule, clean, noise, timesteps).to(device)),
        wanted=_channels_last(target(schedule, clean, noise, timesteps).to(device)),
        timesteps=timesteps.to(device),
        condition={
            part: torch.stack([prompt[part] for prompt in prompts] * 2).to(device) for part in prompts[0]
        },
    )


def pair_errors(
    policy: Policy, family: StableDiffusion1, batch: Batch, *, with_reference: bool, grad: bool
) -> Errors:
    """Winner and loser in one forward pass of the policy, and one of the reference without gradient."""

    def errors_of(unet: torch.nn.Module) -> Tensor:
        with policy.autocast():
            prediction = family.predict(unet, batch.noisy, batch.timesteps, batch.condition)
        return image_errors(prediction, batch.wanted)

    reference = None
    if with_reference:
        with torch.no_grad(), policy.reference() as frozen:
            reference = errors_of(frozen)
    with torch.set_grad_enabled(grad):
        return Errors(errors_of(policy.unet), reference)


def _latent(cache: Cache, picture: str, draw: Draw) -> Tensor:
    mean, std = cache.latent(picture, draw.flip)
    return mean + std * draw.posterior


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)

"""Draws and cached tensors → what one forward pass takes, and the errors that come out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rpo_cli.train.cache import Cache
from rpo_cli.train.data import Pair
from rpo_cli.train.diffusion import NoiseSchedule, add_noise, image_errors, target
from rpo_cli.train.draws import Draw
from rpo_cli.train.families import Condition, Family
from rpo_cli.train.objective import Errors
from rpo_cli.train.policy import Policy


@dataclass(frozen=True)
class Batch:
    """B pairs: every tensor is (2B, ...), the winners first, then their losers in the same order.

    Attributes:
        sizes: (h, w) of each row's latents; what lies outside it is padding.
    """

    noisy: Tensor
    wanted: Tensor
    timesteps: Tensor
    condition: Condition
    sizes: tuple[tuple[int, int], ...]

    def parts(self) -> list[tuple[list[int], "Batch"]]:
        """(its rows, a batch without padding) for each size of latents that occurs."""
        if len(set(self.sizes)) == 1:
            return [(list(range(len(self.sizes))), self)]
        found = []
        for height, width in sorted(set(self.sizes)):
            rows = [row for row, size in enumerate(self.sizes) if size == (height, width)]
            part = Batch(
                noisy=channels_last(self.noisy[rows, :, :height, :width]),
                wanted=channels_last(self.wanted[rows, :, :height, :width]),
                timesteps=self.timesteps[rows],
                condition={name: values[rows] for name, values in self.condition.items()},
                sizes=((height, width),) * len(rows),
            )
            found.append((rows, part))
        return found


def assemble(
    draws: Sequence[Draw], pairs: Sequence[Pair], cache: Cache, schedule: NoiseSchedule, device: str
) -> Batch:
    """Noise both sides of every drawn pair with the same t, ε, posterior sample, mirror and caption."""
    drawn = [pairs[draw.pair] for draw in draws]
    latents = [_latent(cache, pair.winner, draw) for pair, draw in zip(drawn, draws, strict=True)]
    latents += [_latent(cache, pair.loser, draw) for pair, draw in zip(drawn, draws, strict=True)]
    prompts = [
        cache.prompt("" if draw.drop_caption else pair.caption, pair.winner)
        for pair, draw in zip(drawn, draws, strict=True)
    ]
    clean = _padded(latents)
    noise = torch.stack([draw.noise[:, : clean.shape[2], : clean.shape[3]] for draw in draws] * 2)
    timesteps = torch.tensor([draw.timestep for draw in draws] * 2)
    return Batch(
        noisy=channels_last(add_noise(schedule, clean, noise, timesteps).to(device)),
        wanted=channels_last(target(schedule, clean, noise, timesteps).to(device)),
        timesteps=timesteps.to(device),
        condition={
            part: torch.stack([prompt[part] for prompt in prompts] * 2).to(device) for part in prompts[0]
        },
        sizes=tuple((latent.shape[1], latent.shape[2]) for latent in latents),
    )


def pair_errors(
    policy: Policy, family: Family, batch: Batch, *, with_reference: bool, grad: bool
) -> Errors:
    """Winner and loser in one forward pass of the policy, and one of the reference without gradient.

    Pairs whose latents have another size go through a pass of their own.
    """
    parts = batch.parts()
    order = torch.tensor([row for rows, _ in parts for row in rows], device=batch.noisy.device).argsort()

    def errors_of(unet: torch.nn.Module) -> Tensor:
        found = []
        for _, part in parts:
            with policy.autocast():
                prediction = family.predict(unet, part.noisy, part.timesteps, part.condition)
            found.append(image_errors(prediction, part.wanted))
        return torch.cat(found)[order]

    reference = None
    if with_reference:
        with torch.no_grad(), policy.reference() as frozen:
            reference = errors_of(frozen)
    with torch.set_grad_enabled(grad):
        return Errors(errors_of(policy.unet), reference)


def _latent(cache: Cache, picture: str, draw: Draw) -> Tensor:
    mean, std = cache.latent(picture, draw.flip)
    return mean + std * draw.posterior[:, : mean.shape[1], : mean.shape[2]]


def _padded(latents: Sequence[Tensor]) -> Tensor:
    """(N, C, largest h, largest w), zeros below and to the right."""
    height, width = (max(latent.shape[axis] for latent in latents) for axis in (1, 2))
    return torch.stack(
        [
            functional.pad(latent, (0, width - latent.shape[2], 0, height - latent.shape[1]))
            for latent in latents
        ]
    )


def channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)

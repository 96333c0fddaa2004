"""Draws and cached tensors → what one forward pass takes, and the errors that come out of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from rpo_cli.train.data.latents import Cache
from rpo_cli.train.diffusion import NoiseSchedule, add_noise, cross_errors, image_errors, target
from rpo_cli.train.draws import Draw
from rpo_cli.train.families import Condition, Family
from rpo_cli.train.objectives.errors import Errors
from rpo_cli.train.policy import Policy
from rpo_cli.train.rankings import Item


@dataclass(frozen=True)
class Batch:
    """B items of K pictures: every tensor is (K·B, ...), the best of every item first, see `terms.py`.

    Attributes:
        timesteps: what the denoiser is told, see `NoiseSchedule.times`.
        captions: of each row, for text encoders that are trained; others are in `condition`.
        sizes: (h, w) of each row's latents; what lies outside it is padding.
    """

    noisy: Tensor
    wanted: Tensor
    timesteps: Tensor
    condition: Condition
    sizes: tuple[tuple[int, int], ...]
    captions: tuple[str, ...] = ()

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
                captions=tuple(self.captions[row] for row in rows if self.captions),
            )
            found.append((rows, part))
        return found


def assemble(
    draws: Sequence[Draw], items: Sequence[Item], cache: Cache, schedule: NoiseSchedule, device: str
) -> Batch:
    """Noise all pictures of every drawn item with the same t, ε, posterior sample, mirror and caption."""
    drawn = [(items[draw.pair], draw) for draw in draws]
    width = len(drawn[0][0].pictures)
    latents = [_latent(cache, item.pictures[rank], draw) for rank in range(width) for item, draw in drawn]
    captions = ["" if draw.drop_caption else item.caption for item, draw in drawn]
    prompts = [
        cache.prompt(caption, item.pictures[0]) for caption, (item, _) in zip(captions, drawn, strict=True)
    ]
    clean = _padded(latents)
    noise = torch.stack([draw.noise[:, : clean.shape[2], : clean.shape[3]] for draw in draws] * width)
    timesteps = torch.tensor([draw.timestep for draw in draws] * width)
    return Batch(
        noisy=channels_last(add_noise(schedule, clean, noise, timesteps).to(device)),
        wanted=channels_last(target(schedule, clean, noise, timesteps).to(device)),
        timesteps=schedule.times(timesteps).to(device),
        condition={
            part: torch.stack([prompt[part] for prompt in prompts] * width).to(device)
            for part in prompts[0]
        },
        sizes=tuple((latent.shape[1], latent.shape[2]) for latent in latents),
        captions=tuple(captions * width),
    )


def item_errors(
    policy: Policy,
    family: Family,
    batch: Batch,
    *,
    with_reference: bool,
    grad: bool,
    with_cross: bool = False,
    width: int = 2,
) -> Errors:
    """All pictures of an item in one forward pass of the policy, and one of the reference without gradient.

    Items whose latents have another size go through a pass of their own.
    """
    parts = batch.parts()
    order = torch.tensor([row for rows, _ in parts for row in rows], device=batch.noisy.device).argsort()

    def predictions_of(unet: torch.nn.Module) -> list[Tensor]:
        told = [condition_of(policy, part, width) for _, part in parts]
        with policy.autocast():
            return [
                family.predict(unet, part.noisy, part.timesteps, condition)
                for condition, (_, part) in zip(told, parts, strict=True)
            ]

    def errors_of(predictions: Sequence[Tensor]) -> Tensor:
        pairs = zip(predictions, parts, strict=True)
        return torch.cat([image_errors(said, part.wanted) for said, (_, part) in pairs])[order]

    def cross_of(predictions: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        triples = zip(predictions, others, parts, strict=True)
        return torch.cat([cross_errors(a, b, part.wanted) for a, b, (_, part) in triples])[order]

    @torch.no_grad()
    def distance_of(predictions: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
        return torch.cat([image_errors(a, b) for a, b in zip(predictions, others, strict=True)])[order]

    frozen: list[Tensor] = []
    if with_reference:
        with torch.no_grad(), policy.reference() as unet:
            frozen = predictions_of(unet)
    reference = errors_of(frozen) if frozen else None
    with torch.set_grad_enabled(grad):
        said = predictions_of(policy.unet)
        cross = cross_of(said, frozen) if with_cross else None
        apart = distance_of(said, frozen) if with_reference else None
        return Errors(errors_of(said), reference, cross, width=width, distance=apart)


def condition_of(policy: Policy, batch: Batch, width: int) -> Condition:
    """What the denoiser is told; by text encoders under training with their adapters as they are now."""
    if policy.texts is None:
        return batch.condition
    return batch.condition | policy.texts.condition(batch.captions, width)


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

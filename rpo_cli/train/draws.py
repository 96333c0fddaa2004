"""Every random choice of training as a pure function of (seed, step, position): no RNG has state.

So a resumed run makes the choices an undisturbed one would have made, and how a step is split into
forward passes changes nothing. A draw belongs to a pair: winner and loser share all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from rpo_cli.records import row_seed
from rpo_cli.train.data.latents import Cache
from rpo_cli.train.diffusion import NoiseSchedule, add_noise, cross_errors, image_errors, seeded, target
from rpo_cli.train.families.contract import Family
from rpo_cli.train.families.folder import Condition
from rpo_cli.train.objectives.errors import Errors
from rpo_cli.train.policy import Policy
from rpo_cli.train.rankings import Item


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


@dataclass(frozen=True)
class Batch:
    """B items of K pictures: every tensor is (K·B, ...), the best first (`objectives/errors.py`).

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

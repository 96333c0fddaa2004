"""Denoising errors of drawn items: of the policy in batches, and those of the reference that are kept.

The reference's errors of K fixed draws per item are computed once and kept: two floats a draw and pair.

    CACHE/reference/<fingerprint>/<block>.safetensors   tensors "<use>.<block>", (pictures, items) float32

A draw is a pure function of seed, item and use, and a frozen reference has one error for it. The name
hashes all that this error depends on: model, number formats, pictures and captions in their order, frames,
noise levels, draws and the shape of a forward pass. Learning rate, β, rank, steps and method are not in it,
so a sweep pays for the reference once. Blocks are whole or absent; the folder may be deleted at will.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from math import ceil
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from rpo_cli.compute import run_halving
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Observer
from rpo_cli.records import content_key
from rpo_cli.train.data.latents import Cache
from rpo_cli.train.data.pairs import Item
from rpo_cli.train.families.family import Condition, Family
from rpo_cli.train.job import VALIDATION_SHARE, Job, References, work_of
from rpo_cli.train.noise import (
    Draw,
    NoiseSchedule,
    add_noise,
    cross_errors,
    fixed_draw,
    image_errors,
    target,
)
from rpo_cli.train.objectives.objective import Errors, join, ranks
from rpo_cli.train.policy import Policy, weight_dtype
from rpo_cli.train.storage import Shelf


@dataclass(frozen=True)
class Batch:
    """B items of K pictures: every tensor is (K·B, ...), the best of every item first.

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
                noisy=self.noisy[rows, :, :height, :width],
                wanted=self.wanted[rows, :, :height, :width],
                timesteps=self.timesteps[rows],
                condition={name: values[rows] for name, values in self.condition.items()},
                sizes=((height, width),) * len(rows),
                captions=tuple(self.captions[row] for row in rows if self.captions),
            )
            found.append((rows, part))
        return found

    def laid_out(self, layout: torch.memory_format) -> "Batch":
        """The same in another order in memory: that of the denoiser's convolutions."""
        noisy = self.noisy.contiguous(memory_format=layout)
        return replace(self, noisy=noisy, wanted=self.wanted.contiguous(memory_format=layout))


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
        noisy=add_noise(schedule, clean, noise, timesteps).to(device),
        wanted=target(schedule, clean, noise, timesteps).to(device),
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
    parts = [(rows, part.laid_out(policy.layout)) for rows, part in batch.parts()]
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


BLOCK = 1024  # items of one file
CHECKED = 32  # draws that are computed again at every start, at most
NOISE = 0.02  # largest deviation, in logits, of what was kept from what is computed


def with_references(job: Job, policy: Policy, identity: str, folder: Path, observer: Observer) -> Job:
    """The job with its references, the missing ones computed; the same job when it has no fixed draws.

    Args:
        identity: of the model's weights.
        folder: CACHE.

    Raises:
        RpoError: what is kept is not what this machine computes.
    """
    if not job.draws.uses:
        return job
    epochs = ceil(job.settings.steps * job.settings.global_batch / len(job.pairs))
    uses = min(job.draws.uses, epochs)
    shelf = Shelf(folder / "reference" / fingerprint(job, identity))
    blocks = _blocks(job)
    _fill(shelf, job, policy, uses, blocks, observer)
    values = [
        torch.cat([shelf.get(f"{use}.{number}") for number in range(len(blocks))], dim=1)
        for use in range(uses)
    ]
    order = torch.tensor([item for block in blocks for item in block]).argsort()
    job = replace(job, references=References(torch.stack(values)[:, :, order]))
    noise = deviation(job, policy, uses)
    if not noise <= NOISE:
        raise RpoError(
            f"the kept reference errors are not what this machine computes: logits differ by {noise:.3g}",
            f"delete {folder / 'reference'}, or leave out train.reference_draws",
        )
    return job


def fingerprint(job: Job, identity: str) -> str:
    """Of everything that a reference's error depends on."""
    settings, schedule = job.settings, job.schedule
    times = None if schedule.model_times is None else schedule.model_times.tolist()
    return content_key(
        identity,
        [settings.dtype, str(weight_dtype(settings)), settings.compile, _size(job)],
        [job.cache.shape, settings.size_condition],
        [[item.pictures, job.cache.size(item.pictures[0]), item.caption] for item in job.pairs],
        [schedule.prediction_type, schedule.alpha.tolist(), schedule.sigma.tolist(), times],
        asdict(replace(job.draws, uses=0, group=1)),
        *(["captions are encoded in the loop"] if settings.text_encoder else []),
    )


def held_out_fingerprint(job: Job, identity: str) -> str:
    """The same of its errors on the held-out items, see `noise.validation_draw`."""
    draws = replace(job.draws, pairs=len(job.held_out), flip=False, caption_dropout=0.0, discount=1.0)
    alike = replace(job, pairs=job.held_out, draws=draws)
    return content_key(fingerprint(alike, identity), "held out", job.draws.group, job.looks)


def deviation(job: Job, policy: Policy, uses: int) -> float:
    """Root mean square, in logits, of kept against computed, over draws spread over items and uses."""
    assert job.references is not None
    group, items, size = job.objective.group_size, len(job.pairs), _size(job)
    affordable = max(1, int(VALIDATION_SHARE * work_of(job.settings, job.objective)))
    count = ceil(min(CHECKED, affordable) / group) * group
    draws = [fixed_draw(job.draws, place * items // count, place % uses) for place in range(count)]
    chunks = [draws[start : start + size] for start in range(0, count, size)]
    known = job.knowledge.of(draws, job.pairs, job.device)
    fresh = replace(join([_errors(job, policy, chunk) for chunk in chunks]), known=known)
    kept = replace(fresh, reference=job.references.of(draws, job.device))
    equal = replace(fresh, reference=fresh.policy)
    apart = job.objective.logits(kept, job.beta) - job.objective.logits(equal, job.beta)
    return float(apart.square().mean().sqrt())


def _fill(
    shelf: Shelf, job: Job, policy: Policy, uses: int, blocks: list[list[int]], observer: Observer
) -> None:
    """Commit each block that is missing, in forward passes of the training's size and of one shape."""
    missing = [
        (use, number)
        for use in range(uses)
        for number in range(len(blocks))
        if f"{use}.{number}" not in shelf
    ]
    if not missing:
        return
    observer.start("reference", sum(len(blocks[number]) for _, number in missing), 0)
    for use, number in missing:
        draws = [fixed_draw(job.draws, item, use) for item in blocks[number]]
        found: list[Tensor] = []
        for _, alike in groupby(draws, key=lambda draw: _shape(job, draw.pair)):
            results, _ = run_halving(
                lambda chunk: _columns(job, policy, chunk),
                list(alike),
                _size(job),
                what="reference errors",
                note=observer.note,
            )
            found += results
        shelf.add({f"{use}.{number}": torch.stack(found, dim=1)})
        observer.advance(len(found), 0)
    observer.finish()


def _columns(job: Job, policy: Policy, draws: Sequence[Draw]) -> list[Tensor]:
    """(K,) of each draw."""
    errors = _errors(job, policy, draws)
    return list(ranks(errors.policy, errors.width).T.cpu())


def _errors(job: Job, policy: Policy, draws: Sequence[Draw]) -> Errors:
    """The reference's errors, in the place of a policy's."""
    batch = assemble(draws, job.pairs, job.cache, job.schedule, job.device)
    width = len(job.pairs[0].pictures)
    with policy.reference() as unet:
        alone = replace(policy, unet=unet)
        return item_errors(alone, job.family, batch, with_reference=False, grad=False, width=width)


def _size(job: Job) -> int:
    """Items of a training's forward pass: whole groups, unless one does not fit."""
    size, group = job.batch_size, job.objective.group_size
    return size // group * group or size


def _blocks(job: Job) -> list[list[int]]:
    """The items, those of one shape together."""
    order = sorted(range(len(job.pairs)), key=lambda item: _shape(job, item))
    return [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]


def _shape(job: Job, item: int) -> tuple[int, int]:
    return job.cache.size(job.pairs[item].pictures[0])

"""The reference's errors of K fixed draws per item, computed once and kept: two floats a draw and pair.

    CACHE/reference/<fingerprint>/<block>.safetensors   tensors "<use>.<block>", (pictures, items) float32

A draw is a pure function of seed, item and use, and a frozen reference has one error for it. The name
hashes all that this error depends on: model, number formats, pictures and captions in their order, frames,
noise levels, draws and the shape of a forward pass. Learning rate, β, rank, steps and method are not in it,
so a sweep pays for the reference once. Blocks are whole or absent; the folder may be deleted at will.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rpo_cli.compute import run_halving
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Observer
from rpo_cli.records import content_key
from rpo_cli.train.data.storage import Shelf
from rpo_cli.train.draws import Draw, assemble, fixed_draw, item_errors
from rpo_cli.train.job import References
from rpo_cli.train.objectives.objective import Errors, join, ranks
from rpo_cli.train.policy import Policy, weight_dtype

if TYPE_CHECKING:
    from rpo_cli.train.job import Job

BLOCK = 1024  # items of one file
CHECKED = 32  # draws that are computed again at every start
NOISE = 0.02  # largest deviation, in logits, of what was kept from what is computed


def with_references(job: "Job", policy: Policy, identity: str, folder: Path, observer: Observer) -> "Job":
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


def fingerprint(job: "Job", identity: str) -> str:
    """Of everything that a reference's error depends on."""
    settings, schedule = job.settings, job.schedule
    told = None if schedule.told is None else schedule.told.tolist()
    return content_key(
        identity,
        [settings.dtype, str(weight_dtype(settings)), settings.compile, _size(job)],
        [job.cache.shape, settings.size_condition],
        [[item.pictures, job.cache.size(item.pictures[0]), item.caption] for item in job.pairs],
        [schedule.prediction_type, schedule.alpha.tolist(), schedule.sigma.tolist(), told],
        asdict(replace(job.draws, uses=0, group=1)),
        *(["captions are encoded in the loop"] if settings.text_encoder else []),
    )


def deviation(job: "Job", policy: Policy, uses: int) -> float:
    """Root mean square, in logits, of kept against computed, over draws spread over items and uses."""
    assert job.references is not None
    group, items, size = job.objective.group_size, len(job.pairs), _size(job)
    count = ceil(CHECKED / group) * group
    draws = [fixed_draw(job.draws, place * items // count, place % uses) for place in range(count)]
    chunks = [draws[start : start + size] for start in range(0, count, size)]
    known = job.knowledge.of(draws, job.pairs, job.device)
    fresh = replace(join([_errors(job, policy, chunk) for chunk in chunks]), known=known)
    kept = replace(fresh, reference=job.references.of(draws, job.device))
    equal = replace(fresh, reference=fresh.policy)
    apart = job.objective.logits(kept, job.beta) - job.objective.logits(equal, job.beta)
    return float(apart.square().mean().sqrt())


def _fill(
    shelf: Shelf, job: "Job", policy: Policy, uses: int, blocks: list[list[int]], observer: Observer
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


def _columns(job: "Job", policy: Policy, draws: Sequence[Draw]) -> list[Tensor]:
    """(K,) of each draw."""
    errors = _errors(job, policy, draws)
    return list(ranks(errors.policy, errors.width).T.cpu())


def _errors(job: "Job", policy: Policy, draws: Sequence[Draw]) -> Errors:
    """The reference's errors, in the place of a policy's."""
    batch = assemble(draws, job.pairs, job.cache, job.schedule, job.device)
    width = len(job.pairs[0].pictures)
    with policy.reference() as unet:
        alone = replace(policy, unet=unet)
        return item_errors(alone, job.family, batch, with_reference=False, grad=False, width=width)


def _size(job: "Job") -> int:
    """Items of a training's forward pass: whole groups, unless one does not fit."""
    size, group = min(job.settings.batch_size, job.settings.global_batch), job.objective.group_size
    return size // group * group or size


def _blocks(job: "Job") -> list[list[int]]:
    """The items, those of one shape together."""
    order = sorted(range(len(job.pairs)), key=lambda item: _shape(job, item))
    return [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]


def _shape(job: "Job", item: int) -> tuple[int, int]:
    return job.cache.size(job.pairs[item].pictures[0])

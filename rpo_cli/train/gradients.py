"""Draws of a step → errors of its items, and the gradient of its loss, however the step is split."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rpo_cli.errors import RpoError
from rpo_cli.train.batch import assemble, item_errors
from rpo_cli.train.distributed.process_group import gather_errors
from rpo_cli.train.draws import Draw, drawn_pair, training_draw
from rpo_cli.train.objectives.errors import Errors, join, ranks
from rpo_cli.train.policy import Policy
from rpo_cli.train.rankings import Item

if TYPE_CHECKING:
    from rpo_cli.train.step import Job, State

OTHER_KERNELS = 0.05  # largest logit before the first step of a compiled model, or with kept references


def step_places(job: "Job", step: int) -> list[int]:
    """The positions of a step in the order in which they are computed."""
    return by_shape(job, step) if job.objective.group_size == 1 else list(range(job.settings.global_batch))


def by_shape(job: "Job", step: int) -> list[int]:
    """The positions of a step, pictures of one shape together: a forward pass takes one shape at a time."""
    total = job.settings.global_batch

    def shape(position: int) -> tuple[int, int]:
        item = job.pairs[drawn_pair(job.draws, step, position, total)]
        return job.cache.size(item.pictures[0])

    return sorted(range(total), key=shape)


def spread_groups(job: "Job") -> bool:
    """Whether the items of one group are computed by several processes, because groups are too few."""
    group = job.objective.group_size
    return group > 1 and job.settings.global_batch // group < job.world.size


def shares(job: "Job") -> list[range]:
    """What each process takes of a step's places: whole groups, unless there are too few of them."""
    group = 1 if spread_groups(job) else job.objective.group_size
    groups = job.world.shares(job.settings.global_batch // group)
    return [range(part.start * group, part.stop * group) for part in groups]


def own_draws(job: "Job", step: int) -> list[Draw]:
    """Draws of this process's share of a step."""
    places, own = step_places(job, step), shares(job)[job.world.rank]
    total = job.settings.global_batch
    return [training_draw(job.draws, step, places[index], total) for index in own]


def gathered(job: "Job", errors: Errors) -> Errors:
    """Errors of a step's items at each process → of all, in the order of `step_places`."""
    return gather_errors(job.world, errors, [len(part) for part in shares(job)])


def accumulate(job: "Job", state: "State") -> list[Errors]:
    """Backward through every micro-batch; each item weighs 1/global_batch however the step is split."""
    state.optimiser.zero_grad(set_to_none=True)
    group, draws = job.objective.group_size, own_draws(job, state.step)
    size = max(state.batch_size // group, 1) * group  # whole groups, or one that does not fit
    return [backward(job, state, draws[start : start + size]) for start in range(0, len(draws), size)]


def backward(job: "Job", state: "State", draws: Sequence[Draw]) -> Errors:
    """Add the gradient of some items that couple with no others; returns their errors without it.

    A group larger than a forward pass is run twice: once for all its errors, from which the loss gives the
    gradient of each, and once more, in parts, to carry these back. So the split changes no number.
    """
    if len(draws) <= state.batch_size:
        errors = forward(job, state.compared, job.pairs, draws, grad=True)
        require_equal_start(errors, job, state.step)
        loss = job.objective.losses(errors, job.beta).sum() / job.settings.global_batch
        state.scaler.scale(loss).backward()
        return join([errors])
    errors = measured(job, state, draws)
    carry(job, state, draws, slopes(job, errors))
    return errors


def measured(job: "Job", state: "State", draws: Sequence[Draw]) -> Errors:
    """Errors without gradient, in forward passes of the batch size."""
    parts = [forward(job, state.compared, job.pairs, chunk, grad=False) for chunk in _chunks(draws, state)]
    errors = join(parts)
    require_equal_start(errors, job, state.step)
    return errors


def slopes(job: "Job", errors: Errors) -> Tensor:
    """Gradient of the step's loss by the policy's error of each picture, (K, B)."""
    leaf = replace(errors, policy=errors.policy.clone().requires_grad_())
    loss = job.objective.losses(leaf, job.beta).sum() / job.settings.global_batch
    (found,) = torch.autograd.grad(loss, leaf.policy)
    return ranks(found, errors.width)


def carry(job: "Job", state: "State", draws: Sequence[Draw], slope: Tensor) -> None:
    """Run the items again, with gradient, and carry `slope` (K, B) of their errors back to the weights."""
    parts = slope.split(state.batch_size, dim=1)
    for chunk, part in zip(_chunks(draws, state), parts, strict=True):
        again = forward(job, state.policy, job.pairs, chunk, grad=True, with_reference=False).policy
        state.scaler.scale((ranks(again, len(part)) * part).sum()).backward()


def carry_share(job: "Job", state: "State", errors: Errors) -> None:
    """This process's share of the gradient, from the errors of all items of the step."""
    state.optimiser.zero_grad(set_to_none=True)
    own = shares(job)[job.world.rank]
    carry(job, state, own_draws(job, state.step), slopes(job, errors)[:, own.start : own.stop])


def _chunks(draws: Sequence[Draw], state: "State") -> list[Sequence[Draw]]:
    return [draws[start : start + state.batch_size] for start in range(0, len(draws), state.batch_size)]


def forward(
    job: "Job",
    policy: Policy,
    items: Sequence[Item],
    draws: Sequence[Draw],
    *,
    grad: bool,
    with_reference: bool | None = None,
) -> Errors:
    """Errors of drawn items and what is known of them.

    The reference runs when the objective needs it and its errors at these draws are not kept.
    """
    needed = job.objective.needs_reference if with_reference is None else with_reference
    kept = job.references if needed and draws[0].use is not None else None
    batch = assemble(draws, items, job.cache, job.schedule, job.device)
    errors = item_errors(
        policy,
        job.family,
        batch,
        with_reference=needed and kept is None,
        grad=grad,
        with_cross=job.objective.needs_cross and needed,
        width=len(items[0].pictures),
    )
    if kept is not None:
        errors = replace(errors, reference=kept.of(draws, job.device))
    return replace(errors, known=job.knowledge.of(draws, items, job.device))


def require_equal_start(errors: Errors, job: "Job", step: int = 0) -> None:
    """Before the first step the policy is its reference: exactly, or to 0.05 logits when it runs otherwise.

    Raises:
        RpoError: it is not, so the logits of the whole run would be wrong.
    """
    if step > 0 or not (job.objective.needs_reference and job.starts_equal):
        return
    detached = replace(errors, policy=errors.policy.detach())
    if errors.reference is not None:
        if torch.allclose(detached.policy, errors.reference, rtol=0, atol=0, equal_nan=True):
            return  # a batch that is not finite is left out later
        equal = job.objective.logits(replace(detached, policy=errors.reference), job.beta)
        largest = float((job.objective.logits(detached, job.beta) - equal).abs().max())
        if (job.settings.compile or job.references is not None) and largest < OTHER_KERNELS:
            return
    raise RpoError(
        "the policy differs from its reference before the first step",
        "report this with the model and dtype; --dtype float32 may work, and so may leaving out compile",
    )

"""One optimiser step: draws → errors of its items → the gradient of its loss, however the step is split."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from rpo_cli.compute import is_out_of_memory
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Observer
from rpo_cli.train.data.pairs import Item
from rpo_cli.train.item_errors import Batch, assemble, item_errors
from rpo_cli.train.job import Job, State
from rpo_cli.train.journal import FAR_OUT, far_out, summarise
from rpo_cli.train.noise import Draw, drawn_pair, training_draw
from rpo_cli.train.objectives.objective import Errors, join, ranks
from rpo_cli.train.policy import Policy
from rpo_cli.train.processes import gather_errors

OTHER_KERNELS = 0.05  # largest logit before the first step of a compiled model, or with kept references


def step_places(job: Job, step: int) -> list[int]:
    """The positions of a step in the order in which they are computed."""
    return by_shape(job, step) if job.objective.group_size == 1 else list(range(job.settings.global_batch))


def by_shape(job: Job, step: int) -> list[int]:
    """The positions of a step, pictures of one shape together: a forward pass takes one shape at a time."""
    total = job.settings.global_batch

    def shape(position: int) -> tuple[int, int]:
        item = job.pairs[drawn_pair(job.draws, step, position, total)]
        return job.cache.size(item.pictures[0])

    return sorted(range(total), key=shape)


def spread_groups(job: Job) -> bool:
    """Whether the items of one group are computed by several processes, because groups are too few."""
    group = job.objective.group_size
    return group > 1 and job.settings.global_batch // group < job.world.size


def shares(job: Job) -> list[range]:
    """What each process takes of a step's places: whole groups, unless there are too few of them."""
    group = 1 if spread_groups(job) else job.objective.group_size
    groups = job.world.shares(job.settings.global_batch // group)
    return [range(part.start * group, part.stop * group) for part in groups]


def own_draws(job: Job, step: int) -> list[Draw]:
    """Draws of this process's share of a step."""
    places, own = step_places(job, step), shares(job)[job.world.rank]
    total = job.settings.global_batch
    return [training_draw(job.draws, step, places[index], total) for index in own]


def gathered(job: Job, errors: Errors) -> Errors:
    """Errors of a step's items at each process → of all, in the order of `step_places`."""
    return gather_errors(job.world, errors, [len(part) for part in shares(job)])


def accumulate(job: Job, state: State) -> list[Errors]:
    """Backward through every micro-batch; each item weighs 1/global_batch however the step is split."""
    state.optimiser.zero_grad(set_to_none=True)
    group, draws = job.objective.group_size, own_draws(job, state.step)
    size = max(state.batch_size // group, 1) * group  # whole groups, or one that does not fit
    chunks = [draws[start : start + size] for start in range(0, len(draws), size)]
    if size > state.batch_size or torch.device(job.device).type == "cpu":
        return [backward(job, state, chunk) for chunk in chunks]
    return [backward(job, state, chunk, batch) for chunk, batch in ahead(job, chunks)]


def ahead(job: Job, chunks: Sequence[Sequence[Draw]]) -> Iterator[tuple[Sequence[Draw], Batch]]:
    """Each chunk with its batch, which a thread assembles while the device works on the one before."""

    def batch(chunk: Sequence[Draw]) -> Batch:
        return assemble(chunk, job.pairs, job.cache, job.schedule, job.device)

    with ThreadPoolExecutor(1) as thread:
        next_one = thread.submit(batch, chunks[0])
        for place, chunk in enumerate(chunks):
            ready = next_one.result()
            if place + 1 < len(chunks):
                next_one = thread.submit(batch, chunks[place + 1])
            yield chunk, ready


def backward(job: Job, state: State, draws: Sequence[Draw], batch: Batch | None = None) -> Errors:
    """Add the gradient of some items that couple with no others; returns their errors without it.

    A group larger than a forward pass is run twice: once for all its errors, from which the loss gives the
    gradient of each, and once more, in parts, to carry these back. So the split changes no number.
    """
    if len(draws) <= state.batch_size:
        errors = forward(job, state.compared, job.pairs, draws, grad=True, batch=batch)
        require_equal_start(errors, job, state.step)
        loss = job.objective.losses(errors, job.beta).sum() / job.settings.global_batch
        state.scaler.scale(loss).backward()
        return join([errors])
    errors = measured(job, state, draws)
    carry(job, state, draws, slopes(job, errors))
    return errors


def measured(job: Job, state: State, draws: Sequence[Draw]) -> Errors:
    """Errors without gradient, in forward passes of the batch size."""
    parts = [forward(job, state.compared, job.pairs, chunk, grad=False) for chunk in _chunks(draws, state)]
    errors = join(parts)
    require_equal_start(errors, job, state.step)
    return errors


def slopes(job: Job, errors: Errors) -> Tensor:
    """Gradient of the step's loss by the policy's error of each picture, (K, B)."""
    leaf = replace(errors, policy=errors.policy.clone().requires_grad_())
    loss = job.objective.losses(leaf, job.beta).sum() / job.settings.global_batch
    (found,) = torch.autograd.grad(loss, leaf.policy)
    return ranks(found, errors.width)


def carry(job: Job, state: State, draws: Sequence[Draw], slope: Tensor) -> None:
    """Run the items again, with gradient, and carry `slope` (K, B) of their errors back to the weights."""
    parts = slope.split(state.batch_size, dim=1)
    for chunk, part in zip(_chunks(draws, state), parts, strict=True):
        again = forward(job, state.policy, job.pairs, chunk, grad=True, with_reference=False).policy
        state.scaler.scale((ranks(again, len(part)) * part).sum()).backward()


def carry_share(job: Job, state: State, errors: Errors) -> None:
    """This process's share of the gradient, from the errors of all items of the step."""
    state.optimiser.zero_grad(set_to_none=True)
    own = shares(job)[job.world.rank]
    carry(job, state, own_draws(job, state.step), slopes(job, errors)[:, own.start : own.stop])


def _chunks(draws: Sequence[Draw], state: State) -> list[Sequence[Draw]]:
    return [draws[start : start + state.batch_size] for start in range(0, len(draws), state.batch_size)]


def forward(
    job: Job,
    policy: Policy,
    items: Sequence[Item],
    draws: Sequence[Draw],
    *,
    grad: bool,
    with_reference: bool | None = None,
    batch: Batch | None = None,
) -> Errors:
    """Errors of drawn items and what is known of them.

    The reference runs when the objective needs it and its errors at these draws are not kept.

    Args:
        batch: what `assemble` makes of the draws, where that is there already.
    """
    needed = job.objective.needs_reference if with_reference is None else with_reference
    kept = job.references if needed and draws[0].use is not None else None
    batch = batch or assemble(draws, items, job.cache, job.schedule, job.device)
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


def require_equal_start(errors: Errors, job: Job, step: int = 0) -> None:
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


SKIPS = 3  # batches in a row that may be left out because they are not finite
T = TypeVar("T")


def timed_step(job: Job, state: State, observer: Observer) -> dict[str, Any]:
    """One optimiser step, with the speed of all processes and its share of their devices' peak.

    useful_mfu counts what the method needs, hardware_mfu also what is computed again to save memory.
    """
    began = time.perf_counter()
    numbers = train_step(job, state, observer)
    seconds = time.perf_counter() - began
    speed = job.settings.global_batch / seconds
    numbers |= {"pairs_per_second": float(f"{speed:.4g}")}
    if job.ideal is None:
        return numbers
    each = speed / job.world.size
    return numbers | {"useful_mfu": each * job.ideal.useful, "hardware_mfu": each * job.ideal.hardware}


def in_memory(work: Callable[[], T], state: State, observer: Observer) -> T:
    """Do `work`; when memory runs out, do it again in forward passes of half the size.

    Raises:
        RpoError: one pair does not fit.
    """
    while True:
        try:
            return work()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if state.batch_size == 1:
                raise RpoError(
                    "out of memory with one pair per forward pass",
                    "use --gradient-checkpointing, --dtype bfloat16, or a larger device; nothing is lost",
                ) from error
        state.batch_size //= 2
        observer.note(f"out of memory, going on with {state.batch_size} pairs per forward pass")


def step_gradient(job: Job, state: State, observer: Observer) -> Errors:
    """The gradient of the mean loss over the global batch, on every process; returns all items' errors."""
    if spread_groups(job):
        own = in_memory(lambda: measured(job, state, own_draws(job, state.step)), state, observer)
        errors = gathered(job, own)
        in_memory(lambda: carry_share(job, state, errors), state, observer)
    else:
        errors = gathered(job, in_memory(lambda: join(accumulate(job, state)), state, observer))
    job.world.add_gradients(state.policy.parameters.values())
    return errors


def train_step(job: Job, state: State, observer: Observer) -> dict[str, Any]:
    """Gradient of the mean loss over the global batch, clipped and applied; an error changes no weight."""
    settings, policy = job.settings, state.policy
    errors = step_gradient(job, state, observer)
    numbers = summarise(errors, job.objective, job.beta)
    for name in ("loss", "logit_mean"):
        if not math.isfinite(numbers.get(name, 0.0)):
            return skip(job, state, errors, f"{name.replace('_', ' ')} is {numbers[name]}")
    far = far_out(errors, job.objective, job.beta)
    if far.any():
        return skip(job, state, errors, f"largest logit is beyond ±{FAR_OUT:g}", far.tolist())
    state.scaler.unscale_(state.optimiser)
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters.values(), settings.max_grad_norm)
    if not (torch.isfinite(norm) or state.scaler.is_enabled()):  # the scaler leaves out its own overflows
        return skip(job, state, errors, f"gradient's norm is {float(norm)}")
    rate = learning_rate(settings, state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.scaler.step(state.optimiser)
    state.scaler.update()
    state.step += 1
    state.skipped = 0
    return numbers | {"grad_norm": float(norm), "learning_rate": rate}


def skip(
    job: Job, state: State, errors: Errors, what: str, guilty: Sequence[bool] | None = None
) -> dict[str, Any]:
    """Leave a batch out: the weights stay, the step counts.

    Args:
        guilty: which of its items are to blame; None: those with errors that are not finite, or all.

    Returns:
        "skipped_pairs", the items to blame; places in the training split.

    Raises:
        RpoError: the batches before were left out as well.
    """
    if state.skipped >= min(SKIPS, job.settings.steps - 1):
        first = state.step + 1 - state.skipped
        raise RpoError(
            f"the {what} at step {first}" + (f" and on to {state.step + 1}" if state.skipped else ""),
            "lower the learning rate, or use --dtype bfloat16 or float32; the last checkpoint is whole",
        )
    state.optimiser.zero_grad(set_to_none=True)
    total = job.settings.global_batch
    drawn = [drawn_pair(job.draws, state.step, place, total) for place in step_places(job, state.step)]
    if guilty is None:
        values = torch.stack([v for v in (errors.policy, errors.reference) if v is not None])
        guilty = (~values.isfinite()).view(len(values) * errors.width, -1).any(dim=0).tolist()
    named = {item for item, blamed in zip(drawn, guilty, strict=True) if blamed}
    state.step += 1
    state.skipped += 1
    return {"skipped_pairs": sorted(named or set(drawn))}


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Linear warm-up to the full rate at step `warmup_steps` (from 0), then constant."""
    rate = settings.learning_rate
    assert rate is not None  # settled
    return rate * min(1.0, (step + 1) / settings.warmup_steps) if settings.warmup_steps else rate

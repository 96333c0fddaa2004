"""One optimiser step, and the same measurement on held-out pairs."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from rpo_cli.compute import is_out_of_memory
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Observer
from rpo_cli.train.average import Average, beside
from rpo_cli.train.batch import assemble, item_errors
from rpo_cli.train.cache import Cache
from rpo_cli.train.diffusion import NoiseSchedule
from rpo_cli.train.draws import Draw, DrawSettings, drawn_pair, training_draw, validation_draw
from rpo_cli.train.families import Family
from rpo_cli.train.known import Knowledge
from rpo_cli.train.metrics import Numbers, summarise
from rpo_cli.train.objective import Objective
from rpo_cli.train.policy import Policy
from rpo_cli.train.rankings import Item
from rpo_cli.train.references import References
from rpo_cli.train.terms import Errors, join, ranks

VALIDATION_ITEMS = 128  # fixed draws; small splits are drawn several times, large ones in part
OTHER_KERNELS = 0.05  # largest logit before the first step of a compiled model, or with kept references
SKIPS = 3  # batches in a row that may be left out because they are not finite
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """Everything a step reads and never changes.

    Attributes:
        beta: in the objective's own unit.
        ideal_seconds: that an item's useful FLOPs take at the device's peak; None where none is known.
    """

    settings: TrainSettings
    objective: Objective
    family: Family
    schedule: NoiseSchedule
    cache: Cache
    pairs: Sequence[Item]
    held_out: Sequence[Item]
    draws: DrawSettings
    device: str
    knowledge: Knowledge
    beta: float
    ideal_seconds: float | None = None
    references: References | None = None  # of a training with fixed draws


@dataclass
class State:
    """What a step changes.

    Attributes:
        batch_size: shrinks when memory runs out; it is no part of the result.
        skipped: batches in a row, up to now, that were left out; 0 at a checkpoint.
    """

    policy: Policy
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    batch_size: int
    step: int = 0
    average: Average | None = None
    anchor: Average | None = None  # a reference that moves
    skipped: int = 0

    @property
    def compared(self) -> Policy:
        """The policy beside the reference that the loss is relative to."""
        return self.policy if self.anchor is None else beside(self.policy, self.anchor)


def timed_step(job: Job, state: State, observer: Observer) -> dict[str, Any]:
    """One optimiser step, with its speed, and its share of the device's peak where that is known."""
    began = time.perf_counter()
    numbers = in_memory(lambda: train_step(job, state), state, observer)
    seconds = time.perf_counter() - began
    speed = job.settings.global_batch / seconds
    numbers |= {"pairs_per_second": round(speed, 2)}
    return numbers if job.ideal_seconds is None else numbers | {"useful_mfu": speed * job.ideal_seconds}


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


def train_step(job: Job, state: State) -> dict[str, Any]:
    """Gradient of the mean loss over the global batch, clipped and applied; an error changes no weight."""
    settings, policy = job.settings, state.policy
    state.optimiser.zero_grad(set_to_none=True)
    errors = join(accumulate(job, state))
    numbers = summarise(errors, job.objective, job.beta)
    for name in ("loss", "logit_mean"):
        if not math.isfinite(numbers.get(name, 0.0)):
            return skip(job, state, errors, f"{name.replace('_', ' ')} is {numbers[name]}")
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


def skip(job: Job, state: State, errors: Errors, what: str) -> dict[str, Any]:
    """Leave a batch out: the weights stay, the step counts.

    Returns:
        "skipped_pairs", the items with errors that are not finite, or all; places in the training split.

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
    values = torch.stack([v for v in (errors.policy, errors.reference) if v is not None])
    finite = values.isfinite().view(len(values) * errors.width, -1).all(dim=0).tolist()
    guilty = {item for item, good in zip(drawn, finite, strict=True) if not good}
    state.step += 1
    state.skipped += 1
    return {"skipped_pairs": sorted(guilty or set(drawn))}


def step_places(job: Job, step: int) -> list[int]:
    """The positions of a step in the order in which they are computed."""
    return by_shape(job, step) if job.objective.group_size == 1 else list(range(job.settings.global_batch))


def accumulate(job: Job, state: State) -> list[Errors]:
    """Backward through every micro-batch; each item weighs 1/global_batch however the step is split."""
    total, group = job.settings.global_batch, job.objective.group_size
    size = max(state.batch_size // group, 1) * group  # whole groups, or one that does not fit
    places = step_places(job, state.step)
    parts = []
    for start in range(0, total, size):
        draws = [
            training_draw(job.draws, state.step, place, total) for place in places[start : start + size]
        ]
        parts.append(backward(job, state, draws))
    return parts


def by_shape(job: Job, step: int) -> list[int]:
    """The positions of a step, pictures of one shape together: a forward pass takes one shape at a time."""
    total = job.settings.global_batch

    def shape(position: int) -> tuple[int, int]:
        item = job.pairs[drawn_pair(job.draws, step, position, total)]
        return job.cache.size(item.pictures[0])

    return sorted(range(total), key=shape)


def backward(job: Job, state: State, draws: Sequence[Draw]) -> Errors:
    """Add the gradient of some items that couple with no others; returns their errors without it.

    A group larger than a forward pass is run twice: once for all its errors, from which the loss gives the
    gradient of each, and once more, in parts, to carry these back. So the split changes no number.
    """
    if len(draws) <= state.batch_size:
        errors = forward(job, state.compared, job.pairs, draws, grad=True)
        if state.step == 0 and job.objective.needs_reference:
            require_equal_start(errors, job)
        loss = job.objective.losses(errors, job.beta).sum() / job.settings.global_batch
        state.scaler.scale(loss).backward()
        return join([errors])
    chunks = [draws[start : start + state.batch_size] for start in range(0, len(draws), state.batch_size)]
    errors = join([forward(job, state.compared, job.pairs, chunk, grad=False) for chunk in chunks])
    if state.step == 0 and job.objective.needs_reference:
        require_equal_start(errors, job)
    leaf = replace(errors, policy=errors.policy.clone().requires_grad_())
    loss = job.objective.losses(leaf, job.beta).sum() / job.settings.global_batch
    (slope,) = torch.autograd.grad(loss, leaf.policy)
    slopes = ranks(slope, errors.width).split(state.batch_size, dim=1)
    for chunk, part in zip(chunks, slopes, strict=True):
        again = forward(job, state.policy, job.pairs, chunk, grad=True, with_reference=False).policy
        state.scaler.scale((ranks(again, errors.width) * part).sum()).backward()
    return errors


def forward(
    job: Job,
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


def require_equal_start(errors: Errors, job: Job) -> None:
    """Before the first step the policy is its reference: exactly, or to 0.05 logits when it runs otherwise.

    Raises:
        RpoError: it is not, so the logits of the whole run would be wrong.
    """
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


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Linear warm-up to the full rate at step `warmup_steps` (from 0), then constant."""
    if settings.warmup_steps == 0:
        return settings.learning_rate
    return settings.learning_rate * min(1.0, (step + 1) / settings.warmup_steps)


def validation_errors(job: Job, state: State, observer: Observer, *, with_reference: bool) -> Errors:
    """Errors on the held-out items, at the same draws every time; the reference's too when asked."""
    fixed = replace(job.draws, pairs=len(job.held_out))
    group = job.objective.group_size
    draws = [validation_draw(fixed, item) for item in range(max(1, VALIDATION_ITEMS // group) * group)]

    def whole() -> Errors:
        chunks = [
            draws[start : start + state.batch_size] for start in range(0, len(draws), state.batch_size)
        ]
        found = [
            forward(job, state.policy, job.held_out, chunk, grad=False, with_reference=with_reference)
            for chunk in chunks
        ]
        return join(found)

    return in_memory(whole, state, observer)


def validate(job: Job, state: State, reference: Errors, observer: Observer) -> Numbers:
    """Numbers of the policy on the held-out items, beside the reference's errors at the same draws."""
    again = job.objective.needs_cross  # its cross term needs both predictions at once
    errors = validation_errors(job, state, observer, with_reference=again)
    return summarise(replace(errors, reference=reference.reference), job.objective, job.beta)

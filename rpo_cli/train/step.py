"""One optimiser step: what it reads, what it changes, and what is left out."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from rpo_cli.compute import is_out_of_memory
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Observer
from rpo_cli.train.average import Average, beside
from rpo_cli.train.data.latents import Cache
from rpo_cli.train.diffusion import NoiseSchedule
from rpo_cli.train.distributed.process_group import ALONE, World
from rpo_cli.train.draws import DrawSettings, drawn_pair
from rpo_cli.train.families import Family
from rpo_cli.train.gradients import (
    accumulate,
    carry_share,
    gathered,
    measured,
    own_draws,
    spread_groups,
    step_places,
)
from rpo_cli.train.known import Knowledge
from rpo_cli.train.look_ahead.plan import Ideal
from rpo_cli.train.metrics import FAR_OUT, far_out, summarise
from rpo_cli.train.objectives.errors import Errors, join
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.policy import Policy
from rpo_cli.train.rankings import Item
from rpo_cli.train.references import References

SKIPS = 3  # batches in a row that may be left out because they are not finite
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """Everything a step reads and never changes.

    Attributes:
        beta: in the objective's own unit.
        starts_equal: whether the policy's first weights are its reference's.
        ideal: what an item takes at the device's peak; None where none is known.
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
    ideal: Ideal | None = None
    references: References | None = None  # of a training with fixed draws
    world: World = ALONE
    starts_equal: bool = True


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

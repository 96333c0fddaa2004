"""One optimiser step, and the same measurement on held-out pairs."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from rpo_cli.compute import is_out_of_memory
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Observer
from rpo_cli.train.batch import assemble, pair_errors
from rpo_cli.train.cache import Cache
from rpo_cli.train.data import Pair
from rpo_cli.train.diffusion import NoiseSchedule
from rpo_cli.train.draws import DrawSettings, training_draw, validation_draw
from rpo_cli.train.families import Family
from rpo_cli.train.metrics import Numbers, join, summarise
from rpo_cli.train.objective import Errors, Objective
from rpo_cli.train.policy import Policy

VALIDATION_ITEMS = 128  # fixed draws; small splits are drawn several times, large ones in part
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """Everything a step reads and never changes."""

    settings: TrainSettings
    objective: Objective
    family: Family
    schedule: NoiseSchedule
    cache: Cache
    pairs: list[Pair]
    held_out: list[Pair]
    draws: DrawSettings
    device: str


@dataclass
class State:
    """What a step changes. `batch_size` shrinks when memory runs out; it is no part of the result."""

    policy: Policy
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    batch_size: int
    step: int = 0


def timed_step(job: Job, state: State, observer: Observer) -> Numbers:
    """One optimiser step, with its speed."""
    began = time.perf_counter()
    numbers = in_memory(lambda: train_step(job, state), state, observer)
    seconds = time.perf_counter() - began
    return numbers | {"pairs_per_second": round(job.settings.global_batch / seconds, 2)}


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


def train_step(job: Job, state: State) -> Numbers:
    """Gradient of the mean loss over the global batch, clipped and applied; an error changes no weight."""
    settings, policy = job.settings, state.policy
    state.optimiser.zero_grad(set_to_none=True)
    errors = join(accumulate(job, state))
    numbers = summarise(errors, job.objective, settings.beta)
    if not math.isfinite(numbers["loss"]):
        raise RpoError(
            f"the loss is {numbers['loss']} at step {state.step + 1}",
            "lower the learning rate, or use --dtype bfloat16 or float32; the last checkpoint is whole",
        )
    state.scaler.unscale_(state.optimiser)
    norm = torch.nn.utils.clip_grad_norm_(policy.parameters.values(), settings.max_grad_norm)
    rate = learning_rate(settings, state.step)
    for group in state.optimiser.param_groups:
        group["lr"] = rate
    state.scaler.step(state.optimiser)
    state.scaler.update()
    state.step += 1
    return numbers | {"grad_norm": float(norm), "learning_rate": rate}


def accumulate(job: Job, state: State) -> list[Errors]:
    """Backward through every micro-batch; each pair weighs 1/global_batch however the step is split."""
    settings, objective = job.settings, job.objective
    parts = []
    for start in range(0, settings.global_batch, state.batch_size):
        positions = range(start, min(start + state.batch_size, settings.global_batch))
        draws = [training_draw(job.draws, state.step, place, settings.global_batch) for place in positions]
        batch = assemble(draws, job.pairs, job.cache, job.schedule, job.device)
        errors = pair_errors(
            state.policy, job.family, batch, with_reference=objective.needs_reference, grad=True
        )
        if state.step == 0 and objective.needs_reference:
            require_equal_start(errors)
        loss = objective.losses(errors, settings.beta).sum() / settings.global_batch
        state.scaler.scale(loss).backward()
        parts.append(Errors(errors.policy.detach(), errors.reference))
    return parts


def require_equal_start(errors: Errors) -> None:
    """Before the first step the policy is its reference: every logit must be exactly 0.

    Raises:
        RpoError: it is not, so the logits of the whole run would be wrong.
    """
    if errors.reference is None or not torch.equal(errors.policy.detach(), errors.reference):
        raise RpoError(
            "the policy differs from its reference before the first step",
            "report this with the model and dtype; --dtype float32 may work",
        )


def learning_rate(settings: TrainSettings, step: int) -> float:
    """Linear warm-up to the full rate at step `warmup_steps` (from 0), then constant."""
    if settings.warmup_steps == 0:
        return settings.learning_rate
    return settings.learning_rate * min(1.0, (step + 1) / settings.warmup_steps)


def validation_errors(job: Job, state: State, observer: Observer, *, with_reference: bool) -> Errors:
    """Errors on the held-out pairs, at the same draws every time; the reference's too when asked."""
    fixed = DrawSettings(job.draws.seed, len(job.held_out), job.schedule.steps, job.draws.shape, False, 0.0)
    draws = [validation_draw(fixed, item) for item in range(VALIDATION_ITEMS)]

    def part(start: int) -> Errors:
        chunk = draws[start : start + state.batch_size]
        batch = assemble(chunk, job.held_out, job.cache, job.schedule, job.device)
        return pair_errors(state.policy, job.family, batch, with_reference=with_reference, grad=False)

    def whole() -> Errors:
        return join([part(start) for start in range(0, VALIDATION_ITEMS, state.batch_size)])

    return in_memory(whole, state, observer)


def validate(job: Job, state: State, reference: Errors, observer: Observer) -> Numbers:
    """Numbers of the policy on the held-out pairs, beside the reference's errors at the same draws."""
    policy = validation_errors(job, state, observer, with_reference=False).policy
    return summarise(Errors(policy, reference.reference), job.objective, job.settings.beta)

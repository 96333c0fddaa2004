"""What a method that samples will take: its rounds from configurations alone, or K batches timed."""

import time
from dataclasses import dataclass, replace
from math import ceil

import torch

from rpo_cli.compute import known_peak, launched, pick_device, set_threads
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.train.composition import OnlineInputs
from rpo_cli.train.families.family import Folder, open_family
from rpo_cli.train.look_ahead.memory import Memory, blank_pass, blank_policy, kept_of_item, memory_of
from rpo_cli.train.look_ahead.plan import passes
from rpo_cli.train.objectives.online import settled_online
from rpo_cli.train.online.lesson import State
from rpo_cli.train.online.loop import drawn, enough_memory, learned, load_scorers, ready
from rpo_cli.train.online.rollout import (
    Scorers,
    drawn_in_round,
    grid_of,
    latent_shape,
    require_family,
    rows_of_pass,
)
from rpo_cli.train.online.run import of_method, require_work
from rpo_cli.train.online.teacher import Teacher
from rpo_cli.train.policy import require_packages
from rpo_cli.train.processes import ALONE


@dataclass(frozen=True)
class DrawFlops:
    """Useful floating-point operations of one picture; VAE, text encoder and rewards come on top.

    Attributes:
        drawing: of the policy, both branches of guidance, at every denoising step.
        reference: at the same latents.
        learning: of one use, at the steps that teach.
    """

    drawing: int
    reference: int
    learning: int


@dataclass(frozen=True)
class OnlinePlan:
    """What `rpo train` would do; pictures, steps and FLOPs of learning are the most there can be.

    Attributes:
        prompts: of the training split.
        pictures: drawn in all. `scored`: those that every reward sees, promised ones too.
        updates: optimiser steps in all; fewer where pairs lie inside the noise.
        batch_size: pictures of a forward pass.
        seconds_at_peak: of drawing and learning at least; None: no peak is known.
    """

    method: str
    model: str
    prompts: int
    rounds: int
    pictures_per_round: int
    pictures: int
    scored: int
    denoising_steps: int
    taught_steps: int
    uses: int
    updates: int
    batch_size: int
    parameters: int
    trained: int
    flops_per_picture: DrawFlops
    flops_of_training: int
    memory: Memory
    memory_total: int
    recomputed_per_picture: int = 0
    seconds_at_peak: float | None = None


def taught_of(online: OnlineSettings, random: int) -> int:
    """Steps of a trajectory that are learned from: all `random` ones that add noise, or fewer if asked."""
    return min(online.taught_steps or random, random)


def plan_online(
    settings: TrainSettings,
    online: OnlineSettings,
    *,
    prompts: int,
    model: str,
    revision: str | None,
    device: str = "cpu",
) -> OnlinePlan:
    """Plan a training on `prompts` prompts; loads no weights, writes nothing.

    Args:
        online: with `steps` and `guidance` given.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: a model that cannot be sampled so.
    """
    settings, online, objective = settled_online(settings, online)
    family = open_family(model, revision)
    require_family(family, objective)
    latent_shape(family, settings.resolution)  # refuses a resolution that the model has not
    taught = taught_of(online, len(grid_of(model, revision, online).random_steps))
    steps, rounds = online.steps or 0, settings.rounds or 0
    drawn = drawn_in_round(online, prompts)
    items = min(online.prompts_per_round, prompts) if objective.paired else drawn
    rows = rows_of_pass(settings, objective, drawn)
    policy = blank_policy(settings, family, Folder(model, revision))
    said = blank_pass(settings, family, policy, 2 if (online.guidance or 0) > 1 else 1)
    once, again = passes(settings, policy, said, with_reference=objective.needs_reference)
    # a pair whose steps are summed inside its link runs each once more, see `teacher.Chunk.backward`
    again = taught * (again + (once.policy_forward if objective.form == "pair" else 0))
    learning = taught * (once.policy_forward + once.policy_backward)
    flops = DrawFlops(steps * once.policy_forward, steps * once.reference_forward, learning)
    learned, pictures = rounds * online.inner_epochs * items * objective.width, rounds * drawn
    useful = pictures * (flops.drawing + flops.reference) + learned * flops.learning
    peak = known_peak(device, settings.dtype)
    kept = rows * kept_of_item(settings, policy, said)
    memory = memory_of(settings, policy, int(settings.ema is not None), kept, device)
    return OnlinePlan(
        method=objective.name,
        model=model,
        prompts=prompts,
        rounds=rounds,
        pictures_per_round=drawn,
        pictures=pictures,
        scored=pictures * (1 + (steps if objective.values else 0)),
        denoising_steps=steps,
        taught_steps=taught,
        uses=online.inner_epochs,
        updates=rounds * online.inner_epochs * ceil(items / settings.global_batch),
        batch_size=rows,
        parameters=sum(value.numel() for value in policy.unet.parameters()),
        trained=sum(value.numel() for value in policy.parameters.values()),
        flops_per_picture=flops,
        flops_of_training=useful,
        memory=memory,
        memory_total=memory.total,
        recomputed_per_picture=again,
        seconds_at_peak=(useful + learned * again) / peak if peak else None,
    )


SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class OnlineProbe:
    """What some pictures took, after a first batch that is not counted because it warms up.

    Attributes:
        pictures: drawn, scored and learned from once.
        drawing: seconds a picture, of its denoising steps and its rewards.
        learning: seconds a use of a picture that is learned from.
        remaining: rounds of the training that are not in its checkpoint.
        remaining_hours: what they take at this pace, when every prompt of theirs has a pair to learn from.
    """

    method: str
    pictures: int
    drawing: float
    learning: float
    remaining: int
    remaining_hours: float


def probe_online(inputs: OnlineInputs, batches: int, observer: Observer | None = None) -> OnlineProbe:
    """Draw and learn from `batches` forward passes of pictures and time both; writes nothing.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no prompts or rewards, a model that cannot be sampled so, or several processes.
    """
    inputs, objective = of_method(inputs)
    require_work(objective.name, inputs)
    if launched().size > 1:
        raise UsageError("--probe times one process, and several were started", "leave out the launcher")
    settings, online, observer = inputs.settings, inputs.online, observer or Silent()
    require_packages(settings)
    set_threads(inputs.threads)
    inputs = replace(inputs, device=pick_device(inputs.device))
    teacher, state = ready(inputs, objective, observer, ALONE)
    remaining = max(0, (settings.rounds or 0) - state.round)
    with enough_memory(settings):
        judges = load_scorers(inputs, teacher)
        timed(*short_round(inputs, teacher, 1), judges, state, observer)
        short, briefly = short_round(inputs, teacher, batches)
        drawing, learning, pictures, uses = timed(short, briefly, judges, state, observer)
    whole = drawn_in_round(online, len(inputs.prompts))
    taught = 2 * whole // online.images_per_prompt if objective.paired else whole
    seconds = whole * drawing / pictures + online.inner_epochs * taught * learning / uses
    hours = remaining * seconds / SECONDS_AN_HOUR
    return OnlineProbe(objective.name, pictures, drawing / pictures, learning / uses, remaining, hours)


def short_round(inputs: OnlineInputs, teacher: Teacher, batches: int) -> tuple[OnlineInputs, Teacher]:
    """As the training, but in rounds of some forward passes; every pair is learned from, and once."""
    prompts = ceil(batches * teacher.rows / inputs.online.images_per_prompt)
    online = inputs.online.model_copy(update={"prompts_per_round": prompts, "inner_epochs": 1})
    whole = teacher.objective
    objective = replace(whole, min_margin=0.0) if whole.paired else whole
    return replace(inputs, online=online), replace(teacher, online=online, objective=objective)


def timed(
    inputs: OnlineInputs, teacher: Teacher, judges: Scorers, state: State, observer: Observer
) -> tuple[float, float, int, int]:
    """Seconds of drawing and of learning; pictures that were drawn, and uses of them."""
    began = _clock(inputs.device)
    rollout = drawn(inputs, teacher, judges, state, observer)
    between = _clock(inputs.device)
    learned(teacher, rollout, state, observer)
    ended = _clock(inputs.device)
    state.round += 1
    uses = teacher.objective.width * len(rollout.prompts) if teacher.objective.paired else rollout.pictures
    return between - began, ended - between, rollout.pictures, uses


def _clock(device: str) -> float:
    """Seconds, once the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

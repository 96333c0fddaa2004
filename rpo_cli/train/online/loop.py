"""Rounds of sampling, scoring and learning, each committed as one checkpoint; the last is exported."""

import json
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import Any

import torch

from rpo_cli.compute import is_out_of_memory, set_threads
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.protocols import Observer
from rpo_cli.records import content_key
from rpo_cli.train.composition import OnlineInputs
from rpo_cli.train.export.layouts import export, portable_name, require_layouts
from rpo_cli.train.families.family import open_family
from rpo_cli.train.journal import Journal, MetricsFile, Numbers, open_loggers
from rpo_cli.train.objectives.online import OnlineObjective
from rpo_cli.train.online.credit import Memory
from rpo_cli.train.online.lesson import State, lesson
from rpo_cli.train.online.rollout import (
    Rollout,
    Scorers,
    drawn_in_round,
    grid_of,
    latent_shape,
    require_family,
    roll_out,
    rows_of_pass,
)
from rpo_cli.train.online.teacher import Teacher
from rpo_cli.train.online.trajectory import Grid, Sampler
from rpo_cli.train.policy import Average, Policy, build_policy, make_optimiser, weight_dtype
from rpo_cli.train.processes import ALONE, World
from rpo_cli.train.storage import (
    checkpoint_extra,
    latest_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    weights_digest,
)

ENDS = ("first round", "last round")


def run_rounds(
    inputs: OnlineInputs, objective: OnlineObjective, world: World = ALONE, *, observer: Observer
) -> tuple[State, Numbers, Numbers]:
    """Train to the last round and export; the first process writes all files.

    Returns:
        The final state, and the numbers of the first and the last round; {} at all but the first process.

    Raises:
        UsageError: a model that is not of the SD 1.x, 2.x or XL family, or settings it cannot have.
        RpoError: a loss or reward that is not finite, or memory is too small.
    """
    set_threads(inputs.threads)
    teacher, state = ready(inputs, objective, observer, world)
    observer.start("train", inputs.settings.rounds or 0, state.round)
    with closing(opened(inputs, state, world)) as journal, enough_memory(inputs.settings):
        if state.round < (inputs.settings.rounds or 0):
            loop(inputs, teacher, load_scorers(inputs, teacher), state, journal, observer)
    observer.finish()
    first, last = journal.ends()[:2]
    if world.leads:
        finish(inputs, teacher, state, dict(zip(ENDS, (first, last), strict=True)))
    return state, first, last


def ready(
    inputs: OnlineInputs, objective: OnlineObjective, observer: Observer, world: World
) -> tuple[Teacher, State]:
    """The model loaded, and the state where an earlier call left it.

    Raises:
        UsageError: a model that is not of the SD 1.x, 2.x or XL family, or settings it cannot have.
        RpoError: the processes do not have the same training before them.
    """
    settings = inputs.settings
    family = open_family(inputs.model, inputs.revision)
    require_family(family, objective)
    require_layouts(settings, family)
    grid = grid_of(inputs.model, inputs.revision, inputs.online)
    shape = latent_shape(family, settings.resolution)
    observer.note(start_line(inputs, objective, grid))
    denoiser = family.load_denoiser(weight_dtype(settings))
    policy = build_policy(denoiser, settings, family.lora_targets, inputs.seed, inputs.device)
    guidance = inputs.online.guidance
    assert guidance is not None
    sampler = Sampler(policy, family, grid, guidance, shape, inputs.device)
    rows = rows_of_pass(settings, objective, drawn_in_round(inputs.online, len(inputs.prompts)))
    beta = settings.beta or 0.0
    state = start_or_resume(inputs, policy)
    if world.size > 1:
        world.agree(fingerprint(inputs, state, policy))
    return Teacher(sampler, objective, settings, inputs.online, rows, beta, inputs.seed, world), state


def fingerprint(inputs: OnlineInputs, state: State, policy: Policy) -> str:
    """Everything in which the processes of one training must not differ."""
    sections = [part.model_dump(mode="json") for part in (inputs.settings, inputs.online)]
    data = [inputs.prompts_identity, dict(inputs.rewards.identities), inputs.model_identity]
    weights = weights_digest(policy.parameters)
    return content_key(*sections, *data, inputs.seed, state.round, weights)


def load_scorers(inputs: OnlineInputs, teacher: Teacher) -> Scorers:
    """What turns latents into rewards, set up."""
    encoders = teacher.sampler.family.load_encoders(inputs.device)
    return Scorers(encoders, inputs.rewards.build(inputs.device), inputs.rewards.batch_size)


def opened(inputs: OnlineInputs, state: State, world: World) -> Journal:
    """Where the numbers go, without those of rounds that will be made again."""
    if not world.leads:
        return Journal(None)
    key = json.loads((inputs.out / "settings.json").read_text(encoding="utf-8"))["key"]
    loggers = open_loggers(inputs.settings, inputs.out, key, state.round + 1)
    journal = Journal(MetricsFile(inputs.out / "metrics.jsonl"), loggers)
    journal.rewind(state.round or None)
    return journal


def start_line(inputs: OnlineInputs, objective: OnlineObjective, grid: Grid) -> str:
    """What is about to happen, with β and its unit."""
    online, settings = inputs.online, inputs.settings
    kind = "every weight" if settings.full else f"LoRA of rank {settings.rank}"
    count = min(online.prompts_per_round, len(inputs.prompts))
    beta = f"; beta {settings.beta:g}, {objective.beta_unit}" if settings.beta is not None else ""
    return (
        f"{objective.name}, {kind}: {settings.rounds} rounds of {online.images_per_prompt} pictures for "
        f"each of {count} prompts, {len(grid)} steps, guidance {online.guidance:g}, eta {online.eta:g}, "
        f"rewards {', '.join(inputs.rewards.identities)}{beta}"
    )


def start_or_resume(inputs: OnlineInputs, policy: Policy) -> State:
    """The state before the first round, or after the last one that was committed."""
    settings = inputs.settings
    optimiser = make_optimiser(policy.parameters.values(), settings)
    kind = torch.device(inputs.device).type
    scaler = torch.amp.GradScaler(kind, enabled=settings.dtype == "float16")
    average = Average(policy.parameters, settings.ema) if settings.ema else None
    state = State(optimiser, scaler, Memory(inputs.online.baseline_size), average)
    if (path := latest_checkpoint(inputs.out)) is not None:
        averages = average.values if average else None
        state.round = restore_checkpoint(path, policy.parameters, optimiser, scaler, averages)
        kept = checkpoint_extra(path)
        state.step, state.images, state.scored = kept["step"], kept["images"], kept["scored"]
        state.scales, state.memory.rewards = kept["scales"], kept["memory"]
    return state


def loop(
    inputs: OnlineInputs,
    teacher: Teacher,
    judges: Scorers,
    state: State,
    journal: Journal,
    observer: Observer,
) -> None:
    """The rounds that are missing. A round is whole or never was."""
    while state.round < (inputs.settings.rounds or 0):
        began = time.perf_counter()
        rollout = drawn(inputs, teacher, judges, state, observer)
        numbers = learned(teacher, rollout, state, observer)
        state.round += 1
        seconds = round(time.perf_counter() - began, 3)
        budget = {"images_sampled": state.images, "pictures_scored": state.scored, "seconds": seconds}
        journal.append("train", state.round, numbers | budget)
        observer.advance(1, 0)
        if teacher.world.leads:  # all hold the same; draws have no state
            commit(inputs, teacher.sampler.policy, state)


def drawn(
    inputs: OnlineInputs, teacher: Teacher, judges: Scorers, state: State, observer: Observer
) -> Rollout:
    """The pictures of the next round, counted.

    Raises:
        RpoError: a reward that is no finite number.
    """
    rollout = roll_out(
        teacher.sampler,
        judges,
        teacher.objective,
        teacher.online,
        inputs.prompts,
        negative=inputs.negative_prompt,
        rows=teacher.rows,
        seed=inputs.seed,
        index=state.round,
        observer=observer,
        world=teacher.world,
    )
    state.images += rollout.pictures
    promises = len(teacher.sampler.grid) if teacher.objective.values else 0
    state.scored += rollout.pictures * (1 + promises)
    return rollout


def learned(teacher: Teacher, rollout: Rollout, state: State, observer: Observer) -> Numbers:
    """What a round's rewards and optimiser steps say.

    Raises:
        RpoError: a loss or gradient that is not finite.
    """
    taught = lesson(teacher.objective, teacher.online, teacher.beta, teacher.sampler.grid, rollout, state)
    if not taught.items:
        observer.note(f"round {state.round + 1}: no prompt's best and worst differ beyond the noise")
    return taught.numbers | teacher.teach(rollout, taught, state)


@contextmanager
def enough_memory(settings: TrainSettings) -> Iterator[None]:
    """Make running out of memory an RpoError that says what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RpoError(
            f"out of memory with {settings.batch_size} pictures per forward pass",
            "give a smaller --batch-size under another --name, or --dtype bfloat16; whole rounds are saved",
        ) from error


def commit(inputs: OnlineInputs, policy: Policy, state: State) -> None:
    """One checkpoint holds all that the next round reads."""
    extra = {
        "step": state.step,
        "images": state.images,
        "scored": state.scored,
        "scales": state.scales,
        "memory": state.memory.rewards,
    }
    averages = state.average.values if state.average else None
    where = (inputs.out, state.round, policy.parameters, state.optimiser, state.scaler)
    save_checkpoint(*where, averages, extra)


def finish(inputs: OnlineInputs, teacher: Teacher, state: State, metrics: dict[str, Numbers]) -> None:
    """Write weights and card."""
    facts: dict[str, Any] = {
        "model": portable_name(inputs.model),
        "model_identity": inputs.model_identity,
        "prompts": inputs.prompts_identity,
        "rewards": inputs.rewards.identities,
        "images": state.images,
        "pictures_scored": state.scored,
        "seed": inputs.seed,
        "online": inputs.online.model_dump(mode="json", exclude_none=True),
    }
    family, policy, settings = teacher.sampler.family, teacher.sampler.policy, inputs.settings
    result = inputs.out / (family.component if settings.full else "adapter")
    with exported_weights(state):
        export(result, policy, family, settings, teacher.objective, facts, metrics)


def exported_weights(state: State) -> AbstractContextManager[None]:
    """Within, the policy has the weights that will be exported: the averaged ones when there are some."""
    return state.average.applied() if state.average else nullcontext()

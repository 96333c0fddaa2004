"""Rounds of sampling, scoring and learning, each committed as one checkpoint; the last is exported."""

import json
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler

from rpo_cli.compute import is_out_of_memory, set_threads
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Observer
from rpo_cli.sections import OnlineSettings
from rpo_cli.train import checkpoint
from rpo_cli.train.average import Average
from rpo_cli.train.export import export, portable_name, require_layouts
from rpo_cli.train.families import Family, open_family
from rpo_cli.train.families.folder import Folder
from rpo_cli.train.loggers import open_loggers
from rpo_cli.train.metrics import Journal, MetricsFile, Numbers
from rpo_cli.train.online.credit import Memory
from rpo_cli.train.online.lesson import State, lesson
from rpo_cli.train.online.objective import OnlineObjective
from rpo_cli.train.online.rollout import Judges, Prompts, roll_out
from rpo_cli.train.online.run import Rewards
from rpo_cli.train.online.teach import Teacher
from rpo_cli.train.optimiser import make_optimiser
from rpo_cli.train.policy import Policy, build_policy, weight_dtype
from rpo_cli.train.trajectory import Grid, Sampler

ENDS = ("first round", "last round")


@dataclass(frozen=True)
class Inputs:
    """What `rpo_cli.train.online.run.train_online` was asked for, settled."""

    settings: TrainSettings
    online: OnlineSettings
    objective: OnlineObjective
    prompts: Prompts
    prompts_identity: str
    rewards: Rewards
    negative: str
    model: str
    revision: str | None
    model_identity: str
    out: Path
    result: Path
    seed: int
    device: str


def run_rounds(inputs: Inputs, threads: int, observer: Observer) -> tuple[State, Numbers, Numbers]:
    """Train to the last round and export.

    Returns:
        The final state, and the numbers of the first and the last round.

    Raises:
        UsageError: a model that is not of the SD 1.x or 2.x family, or settings it cannot have.
        RpoError: a loss or reward that is not finite, or memory is too small.
    """
    set_threads(threads)
    family = open_family(inputs.model, inputs.revision)
    require_family(family, inputs.objective)
    require_layouts(inputs.settings, family)
    grid = grid_of(inputs.model, inputs.revision, inputs.online)
    shape = latent_shape(family, inputs.settings.resolution)
    observer.note(start_line(inputs, grid))
    denoiser = family.load_denoiser(weight_dtype(inputs.settings))
    policy = build_policy(denoiser, inputs.settings, family.lora_targets, inputs.seed, inputs.device)
    guidance = inputs.online.guidance
    assert guidance is not None
    sampler = Sampler(policy, family, grid, guidance, shape, inputs.device)
    state = start_or_resume(inputs, policy)
    observer.start("train", inputs.settings.rounds or 0, state.round)
    try:
        with closing(opened(inputs, state)) as journal:
            loop(inputs, sampler, state, journal, observer)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise RpoError(
            f"out of memory with {inputs.settings.batch_size} pictures per forward pass",
            "give a smaller --batch-size under another --name, or --dtype bfloat16; whole rounds are saved",
        ) from error
    observer.finish()
    first, last = journal.ends()[:2]
    finish(inputs, sampler, state, dict(zip(ENDS, (first, last), strict=True)))
    return state, first, last


def opened(inputs: Inputs, state: State) -> Journal:
    """Where the numbers go, without those of rounds that will be made again."""
    key = json.loads((inputs.out / "settings.json").read_text(encoding="utf-8"))["key"]
    loggers = open_loggers(inputs.settings, inputs.out, key, state.round + 1)
    journal = Journal(MetricsFile(inputs.out / "metrics.jsonl"), loggers)
    journal.rewind(state.round or None)
    return journal


def require_family(family: Family, objective: OnlineObjective) -> None:
    """Refuse what stochastic DDIM steps with one text encoder cannot draw.

    Raises:
        UsageError: a flow model, or one that is told the picture's size.
    """
    family.check()
    if family.component != "unet" or family.sized:
        raise UsageError(
            f"{objective.name} samples with stochastic DDIM, for SD 1.x and 2.x only; "
            f"a {family.pipeline} cannot be trained with it yet",
            "use a method that learns from pairs, e.g. --method dpo",
        )


def grid_of(model: str, revision: str | None, online: OnlineSettings) -> Grid:
    """The denoising steps.

    Raises:
        UsageError: more steps teach than have a density, or none has.
    """
    assert online.steps is not None
    config = Folder(model, revision).config("scheduler", DDIMScheduler)
    grid = Grid.of(config, online.steps, online.eta)
    random = len(grid.random_steps)
    if random < max(1, online.taught_steps or 0):
        raise UsageError(
            f"online.steps = {online.steps}: only {random} of these steps are random and can teach",
            "give more online.steps, or fewer online.taught_steps",
        )
    return grid


def latent_shape(family: Family, resolution: int | None) -> tuple[int, int, int]:
    """(C, h, w) of what is sampled.

    Raises:
        UsageError: the model cannot work at this resolution.
    """
    (channels, side, _), own = family.latent_size()
    if resolution is not None and resolution % family.grain():
        raise UsageError(
            f"a resolution of {resolution} pixels is no multiple of {family.grain()}, as this model needs",
            f"e.g. train.resolution = {max(1, round(resolution / family.grain())) * family.grain()}",
        )
    side = side * (resolution or own) // own
    return (channels, side, side)


def start_line(inputs: Inputs, grid: Grid) -> str:
    """What is about to happen, with β and its unit."""
    online, objective, settings = inputs.online, inputs.objective, inputs.settings
    kind = "every weight" if settings.full else f"LoRA of rank {settings.rank}"
    count = min(online.prompts_per_round, len(inputs.prompts))
    beta = f"; beta {settings.beta:g}, {objective.beta_unit}" if settings.beta is not None else ""
    return (
        f"{objective.name}, {kind}: {settings.rounds} rounds of {online.images_per_prompt} pictures for "
        f"each of {count} prompts, {len(grid)} steps, guidance {online.guidance:g}, eta {online.eta:g}, "
        f"rewards {', '.join(inputs.rewards.identities)}{beta}"
    )


def start_or_resume(inputs: Inputs, policy: Policy) -> State:
    """The state before the first round, or after the last one that was committed."""
    settings = inputs.settings
    optimiser = make_optimiser(policy.parameters.values(), settings)
    kind = torch.device(inputs.device).type
    scaler = torch.amp.GradScaler(kind, enabled=settings.dtype == "float16")
    average = Average(policy.parameters, settings.ema) if settings.ema else None
    state = State(optimiser, scaler, Memory(inputs.online.baseline_size), average)
    if (path := checkpoint.latest(inputs.out)) is not None:
        averages = average.values if average else None
        state.round = checkpoint.restore(path, policy.parameters, optimiser, scaler, averages)
        kept = checkpoint.extra(path)
        state.step, state.images, state.scored = kept["step"], kept["images"], kept["scored"]
        state.scales, state.memory.rewards = kept["scales"], kept["memory"]
    return state


def loop(inputs: Inputs, sampler: Sampler, state: State, journal: Journal, observer: Observer) -> None:
    """The rounds that are missing. A round is whole or never was."""
    settings, online, objective = inputs.settings, inputs.online, inputs.objective
    if state.round == settings.rounds:
        return
    judges = Judges(
        sampler.family.load_encoders(inputs.device),
        inputs.rewards.build(inputs.device),
        inputs.rewards.batch_size,
    )
    drawn = drawn_in_round(online, len(inputs.prompts))
    rows = rows_of_pass(settings, objective, drawn)
    beta = settings.beta or 0.0
    teacher = Teacher(sampler, objective, settings, online, rows, beta, inputs.seed)
    while state.round < (settings.rounds or 0):
        rollout = roll_out(
            sampler,
            judges,
            objective,
            online,
            inputs.prompts,
            negative=inputs.negative,
            rows=rows,
            seed=inputs.seed,
            index=state.round,
            observer=observer,
        )
        state.images += rollout.pictures
        state.scored += rollout.pictures * (1 + (len(sampler.grid) if objective.values else 0))
        learned = lesson(objective, online, beta, sampler.grid, rollout, state)
        numbers = learned.numbers | teacher.teach(rollout, learned, state)
        if not learned.items:
            observer.note(f"round {state.round + 1}: no prompt's best and worst differ beyond the noise")
        state.round += 1
        budget = {"images_sampled": state.images, "pictures_scored": state.scored}
        journal.append("train", state.round, numbers | budget)
        observer.advance(1, 0)
        commit(inputs, sampler.policy, state)


def drawn_in_round(online: OnlineSettings, prompts: int) -> int:
    """Pictures of a round."""
    return min(online.prompts_per_round, prompts) * online.images_per_prompt


def rows_of_pass(settings: TrainSettings, objective: OnlineObjective, drawn: int) -> int:
    """Pictures of a forward pass, in sampling and in learning; even for pairs."""
    rows = min(settings.batch_size, drawn)
    return rows - rows % objective.width


def commit(inputs: Inputs, policy: Policy, state: State) -> None:
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
    checkpoint.save(*where, averages, extra)


def finish(inputs: Inputs, sampler: Sampler, state: State, metrics: dict[str, Numbers]) -> None:
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
    family, settings = sampler.family, inputs.settings
    result = inputs.out / family.component if settings.full else inputs.result
    with exported_weights(state):
        export(result, sampler.policy, family, settings, inputs.objective, facts, metrics)


def exported_weights(state: State) -> AbstractContextManager[None]:
    """Within, the policy has the weights that will be exported: the averaged ones when there are some."""
    return state.average.applied() if state.average else nullcontext()

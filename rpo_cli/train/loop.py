"""Training from prepared data to exported weights: encode once, step, validate, save, export."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from rpo_cli.compute import set_threads
from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer
from rpo_cli.train import checkpoint
from rpo_cli.train.average import Average
from rpo_cli.train.cache import Builder, Framing
from rpo_cli.train.compose import composed
from rpo_cli.train.data import Pair
from rpo_cli.train.diffusion import NoiseSchedule, logit_normal
from rpo_cli.train.draws import DrawSettings
from rpo_cli.train.embeddings import embed
from rpo_cli.train.export import add_layouts, export, portable_name, require_layouts
from rpo_cli.train.families import Family, open_family
from rpo_cli.train.families.folder import Folder
from rpo_cli.train.known import knowledge
from rpo_cli.train.metrics import MetricsFile, Numbers, runaway_warning, spread_warning, summarise
from rpo_cli.train.objective import Objective
from rpo_cli.train.optimiser import make_optimiser
from rpo_cli.train.plan import ideal_seconds
from rpo_cli.train.policy import Policy, build_policy, weight_dtype
from rpo_cli.train.rankings import read_items
from rpo_cli.train.references import with_references
from rpo_cli.train.run import Embedder
from rpo_cli.train.scale import salesforce_beta, scale_line
from rpo_cli.train.step import Job, State, timed_step, validate, validation_errors

ENDS = ("train, first", "train, last", "validation, first", "validation, last")


@dataclass(frozen=True)
class Inputs:
    """What `rpo_cli.train.run.train` was asked for."""

    settings: TrainSettings
    dataset: Path
    model: str
    revision: str | None
    model_identity: str
    dataset_identity: str
    out: Path
    result: Path
    cache: Path
    seed: int
    device: str
    embedder: Embedder | None = None


def run_training(inputs: Inputs, threads: int, observer: Observer) -> tuple[int, list[Numbers]]:
    """Train to the end and export.

    Returns:
        The number of training pairs, and the numbers that `ENDS` names.
    """
    set_threads(threads)
    family = open_family(inputs.model, inputs.revision)
    family.check()
    require_layouts(inputs.settings, family)
    job = prepare(inputs, family, observer)
    observer.note(start_line(job))
    folder = Folder(inputs.model, inputs.revision)
    ideal = ideal_seconds(job.settings, job.objective, family, folder, inputs.device)
    job = replace(job, ideal_seconds=ideal)
    denoiser = family.load_denoiser(weight_dtype(job.settings))
    policy = build_policy(denoiser, job.settings, family.lora_targets, inputs.seed, inputs.device)
    job = with_references(job, policy, inputs.model_identity, inputs.cache, observer)
    state = start_or_resume(job, policy, inputs.out)
    metrics = MetricsFile(inputs.out / "metrics.jsonl")
    metrics.rewind(state.step or None)
    observer.start("train", job.settings.steps, state.step)
    loop(job, state, metrics, inputs.out, observer)
    observer.finish()
    numbers = [*metrics.first_and_last("train"), *metrics.first_and_last("validation")]
    facts = {
        "model": portable_name(inputs.model),
        "model_identity": inputs.model_identity,
        "dataset": inputs.dataset_identity,
        "pairs": len(job.pairs),
        "seed": inputs.seed,
    }
    ends = dict(zip(ENDS, numbers, strict=True))
    result = inputs.out / family.component if job.settings.full else inputs.result
    with exported_weights(state):
        export(result, policy, family, job.settings, job.objective, facts, ends)
    return len(job.pairs), numbers


def add_exports(inputs: Inputs, threads: int) -> None:
    """Write the layouts that a finished LoRA lacks."""
    set_threads(threads)
    settings = inputs.settings
    family = open_family(inputs.model, inputs.revision)
    require_layouts(settings, family)
    denoiser = family.load_denoiser(weight_dtype(settings))
    policy = build_policy(denoiser, settings, family.lora_targets, inputs.seed, inputs.device)
    lacking = [layout for layout in settings.export if not (inputs.result / layout).exists()]
    add_layouts(inputs.result, lacking, policy, family, settings)


def prepare(inputs: Inputs, family: Family, observer: Observer) -> Job:
    """Read the pairs and fill the cache.

    Raises:
        UsageError: the training split is empty.
    """
    settings = inputs.settings
    objective = composed(settings)
    pairs, held_out = (read_items(inputs.dataset, split, objective) for split in ("train", "validation"))
    if not pairs:
        raise UsageError(
            f"{inputs.dataset}: the training split is empty", "loosen the gates of `rpo build-pairs`"
        )
    if not held_out:
        observer.note("no validation pairs: nothing is held out, so nothing can be said about overfitting")
    framing = Framing(settings.resolution, settings.buckets, settings.size_condition)
    builder = Builder(inputs.cache, family, inputs.model_identity, inputs.device, observer, framing)
    cache = builder.build(
        inputs.dataset,
        [*pairs, *held_out],
        flip=settings.flip,
        drop_captions=settings.caption_dropout > 0,
    )
    schedule = schedule_of(family, settings)
    draws = draw_settings(inputs, objective, len(pairs), schedule.steps, cache.envelope)
    embeddings = None
    if objective.needs_embedder and inputs.embedder is not None:
        everything = [item for item in (*pairs, *held_out) if isinstance(item, Pair)]
        embeddings = embed(
            inputs.cache, inputs.embedder, inputs.dataset, everything, inputs.device, observer
        )
    known = knowledge(objective, schedule, pairs, embeddings)
    beta = salesforce_beta(settings.beta or 0.0, settings.beta_from, prod(cache.shape))
    return Job(
        settings, objective, family, schedule, cache, pairs, held_out, draws, inputs.device, known, beta
    )


def schedule_of(family: Family, settings: TrainSettings) -> NoiseSchedule:
    """The family's noise levels, as densely as the settings draw them.

    Raises:
        UsageError: a logit-normal density for a model that is no flow.
    """
    schedule = family.schedule
    flow = schedule.prediction_type == "flow"
    density = settings.timestep_density or ("logit-normal" if flow else "uniform")
    if density == "uniform":
        return schedule
    if not flow:
        raise UsageError(
            f"train.timestep_density = logit-normal: a {family.pipeline} is no flow model",
            "leave it out, or weigh timesteps with train.timestep_weight",
        )
    return logit_normal(schedule)


def draw_settings(
    inputs: Inputs, objective: Objective, items: int, timesteps: int, shape: tuple[int, int, int]
) -> DrawSettings:
    """What the training draws depend on.

    Raises:
        UsageError: the band of timesteps is not the model's.
    """
    first = objective.min_timestep
    last = timesteps - 1 if objective.max_timestep is None else objective.max_timestep
    if objective.clip:  # the likelihood ratio of a denoising step is not defined at the ends
        first, last = max(first, 1), min(last, timesteps - 2)
    if not 0 <= first <= last < timesteps:
        raise UsageError(
            f"timesteps {first} to {last}: the model has 0 to {timesteps - 1}",
            "choose train.min_timestep and train.max_timestep within them",
        )
    return DrawSettings(
        seed=inputs.seed,
        pairs=items,
        timesteps=timesteps,
        shape=shape,
        flip=inputs.settings.flip,
        caption_dropout=inputs.settings.caption_dropout,
        first=first,
        last=last,
        discount=objective.timestep_discount,
        group=objective.group_size,
        shared=objective.shared,
        uses=inputs.settings.reference_draws or 0,
    )


def start_line(job: Job) -> str:
    """What is about to happen, with β and its unit."""
    kind = "every weight" if job.settings.full else f"LoRA of rank {job.settings.rank}"
    every = job.objective.reference_every
    kind += f", reference moves every {every} steps" if every else ""
    items = f"lists of {job.objective.list_size}" if job.objective.listwise else "pairs"
    return (
        f"{job.objective.name} on {len(job.pairs)} {items} ({len(job.held_out)} held out), {kind}, "
        f"{job.schedule.prediction_type} model; {scale_line(job.objective, job.beta, job.cache.shape)}"
    )


def start_or_resume(job: Job, policy: Policy, out: Path) -> State:
    settings = job.settings
    optimiser = make_optimiser(policy.parameters.values(), settings)
    kind = torch.device(job.device).type
    scaler = torch.amp.GradScaler(kind, enabled=settings.dtype == "float16")
    average = Average(policy.parameters, settings.ema) if settings.ema else None
    anchor = Average(policy.parameters, 0.0) if job.objective.reference_every else None
    size = min(settings.batch_size, settings.global_batch)
    state = State(policy, optimiser, scaler, size, average=average, anchor=anchor)
    if (path := checkpoint.latest(out)) is not None:
        state.step = checkpoint.restore(path, policy.parameters, optimiser, scaler, averages(state))
    return state


def averages(state: State) -> dict[str, Tensor]:
    """Every averaged weight by a name of its own, for the checkpoint."""
    found = dict(state.average.values) if state.average else {}
    anchors = state.anchor.values if state.anchor else {}
    return found | {f"reference.{name}": value for name, value in anchors.items()}


def move_averages(job: Job, state: State) -> None:
    """After an optimiser step."""
    if state.average is not None:
        state.average.update(state.step)
    every = job.objective.reference_every
    if state.anchor is not None and every and state.step % every == 0:
        state.anchor.move(job.objective.reference_decay)


def exported_weights(state: State) -> AbstractContextManager[None]:
    """Within, the policy has the weights that will be exported: the averaged ones when there are some."""
    return state.average.applied() if state.average else nullcontext()


def loop(job: Job, state: State, metrics: MetricsFile, out: Path, observer: Observer) -> None:
    """Steps, validation before, during and after, checkpoints; the last step is always saved."""
    settings = job.settings
    reference = validation_errors(job, state, observer, with_reference=True) if job.held_out else None
    if state.step == 0 and reference is not None:
        metrics.append("validation", 0, summarise(reference, job.objective, job.beta))
    ran_away = False
    while state.step < settings.steps:
        numbers = timed_step(job, state, observer)
        move_averages(job, state)
        metrics.append("train", state.step, numbers)
        observer.advance(1, 0)
        if (advice := spread_warning(state.step, numbers.get("logit_std", 1.0))) is not None:
            observer.note(advice)
        if not ran_away and (advice := runaway_warning(state.step, numbers)) is not None:
            observer.note(advice)
            ran_away = True
        if state.skipped:
            observer.note(f"step {state.step} is not finite: pairs {numbers['skipped_pairs']} are left out")
        last = state.step == settings.steps
        if reference is not None and (last or state.step % settings.validate_every == 0):
            with exported_weights(state):
                held_out = validate(job, state, reference, observer)
            metrics.append("validation", state.step, held_out)
        if last or (state.step % settings.save_every == 0 and not state.skipped):
            parameters = state.policy.parameters
            checkpoint.save(out, state.step, parameters, state.optimiser, state.scaler, averages(state))

"""Training from prepared data to exported weights: encode once, step, validate, save, export."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rpo_cli import registry
from rpo_cli.compute import set_threads
from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer
from rpo_cli.train import checkpoint
from rpo_cli.train.cache import Builder, Framing
from rpo_cli.train.data import read_pairs
from rpo_cli.train.draws import DrawSettings
from rpo_cli.train.export import export, portable_name
from rpo_cli.train.families import Family, open_family
from rpo_cli.train.metrics import MetricsFile, Numbers, spread_warning, summarise
from rpo_cli.train.policy import Policy, build_policy, weight_dtype
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


def run_training(inputs: Inputs, threads: int, observer: Observer) -> tuple[int, list[Numbers]]:
    """Train to the end and export.

    Returns:
        The number of training pairs, and the numbers that `ENDS` names.
    """
    set_threads(threads)
    family = open_family(inputs.model, inputs.revision)
    family.check()
    job = prepare(inputs, family, observer)
    observer.note(start_line(job))
    denoiser = family.load_denoiser(weight_dtype(job.settings))
    policy = build_policy(denoiser, job.settings, family.lora_targets, inputs.seed, inputs.device)
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
    export(inputs.result, policy, job.settings, job.objective, facts, dict(zip(ENDS, numbers, strict=True)))
    return len(job.pairs), numbers


def prepare(inputs: Inputs, family: Family, observer: Observer) -> Job:
    """Read the pairs and fill the cache.

    Raises:
        UsageError: the training split is empty.
    """
    settings = inputs.settings
    pairs, held_out = (read_pairs(inputs.dataset, split) for split in ("train", "validation"))
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
    schedule = family.schedule
    draws = DrawSettings(
        inputs.seed, len(pairs), schedule.steps, cache.shape, settings.flip, settings.caption_dropout
    )
    objective = registry.load("objectives", settings.method)
    return Job(settings, objective, family, schedule, cache, pairs, held_out, draws, inputs.device)


def start_line(job: Job) -> str:
    """What is about to happen, with β and its unit."""
    scale = (
        f"beta {job.settings.beta:g}: {job.objective.beta_unit}"
        if job.objective.default_beta
        else "no beta"
    )
    kind = "every weight" if job.settings.full else f"LoRA of rank {job.settings.rank}"
    return (
        f"{job.objective.name} on {len(job.pairs)} pairs ({len(job.held_out)} held out), {kind}, "
        f"{job.schedule.prediction_type} model; {scale}"
    )


def start_or_resume(job: Job, policy: Policy, out: Path) -> State:
    settings = job.settings
    optimiser = torch.optim.AdamW(
        policy.parameters.values(),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    kind = torch.device(job.device).type
    scaler = torch.amp.GradScaler(kind, enabled=settings.dtype == "float16")
    state = State(policy, optimiser, scaler, min(settings.batch_size, settings.global_batch))
    if (path := checkpoint.latest(out)) is not None:
        state.step = checkpoint.restore(path, policy.parameters, optimiser, scaler)
    return state


def loop(job: Job, state: State, metrics: MetricsFile, out: Path, observer: Observer) -> None:
    """Steps, validation before, during and after, checkpoints; the last step is always saved."""
    settings = job.settings
    reference = validation_errors(job, state, observer, with_reference=True) if job.held_out else None
    if state.step == 0 and reference is not None:
        metrics.append("validation", 0, summarise(reference, job.objective, settings.beta))
    while state.step < settings.steps:
        numbers = timed_step(job, state, observer)
        metrics.append("train", state.step, numbers)
        observer.advance(1, 0)
        if (advice := spread_warning(state.step, numbers.get("logit_std", 1.0))) is not None:
            observer.note(advice)
        last = state.step == settings.steps
        if reference is not None and (last or state.step % settings.validate_every == 0):
            metrics.append("validation", state.step, validate(job, state, reference, observer))
        if last or state.step % settings.save_every == 0:
            checkpoint.save(out, state.step, state.policy.parameters, state.optimiser, state.scaler)

"""Training from prepared data to exported weights: encode once, step, validate, save, export."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rpo_cli.compute import known_peak, set_threads
from rpo_cli.protocols import Observer
from rpo_cli.records import content_key
from rpo_cli.train.composition import OnlineInputs, TrainInputs, scale_line
from rpo_cli.train.data.latents import tell_too_long
from rpo_cli.train.export.layouts import add_layouts, export, portable_name, require_layouts
from rpo_cli.train.export.lora_files import export_reference, start_from
from rpo_cli.train.families.family import Family, Folder, open_family
from rpo_cli.train.item_errors import held_out_fingerprint, with_references
from rpo_cli.train.job import Job, State, prepare
from rpo_cli.train.journal import (
    Journal,
    MetricsFile,
    Numbers,
    open_loggers,
    runaway_warning,
    spread_warning,
    summarise,
)
from rpo_cli.train.look_ahead.memory import fit
from rpo_cli.train.noise import Draw, validation_draw
from rpo_cli.train.objectives.objective import Errors, join
from rpo_cli.train.policy import Average, Policy, build_policy, load_texts, make_optimiser, weight_dtype
from rpo_cli.train.processes import ALONE, World, gather_errors
from rpo_cli.train.step import forward, in_memory, timed_step
from rpo_cli.train.storage import (
    Shelf,
    checkpoint_extra,
    latest_checkpoint,
    restore_checkpoint,
    save_checkpoint,
    weights_digest,
    write_atomically,
)


def validation_errors(
    job: Job,
    state: State,
    observer: Observer,
    *,
    with_reference: bool = False,
    reference_alone: bool = False,
) -> Errors:
    """Errors on the held-out items, at the same draws every time.

    Args:
        with_reference: the reference's too.
        reference_alone: the reference's, in the place of the policy's.
    """
    draws = held_out_draws(job)
    counts = [len(part) for part in job.world.shares(len(draws))]
    spread = min(counts) > 0
    own = [draws[place] for place in job.world.share(len(draws))] if spread else draws

    def part(policy: Policy, chunk: Sequence[Draw]) -> Errors:
        return forward(job, policy, job.held_out, chunk, grad=False, with_reference=with_reference)

    def whole() -> Errors:
        chunks = [own[start : start + state.batch_size] for start in range(0, len(own), state.batch_size)]
        if not reference_alone:
            return join([part(state.policy, chunk) for chunk in chunks])
        with state.policy.reference() as denoiser:
            return join([part(replace(state.policy, unet=denoiser), chunk) for chunk in chunks])

    errors = in_memory(whole, state, observer)
    return gather_errors(job.world, errors, counts) if spread else errors


def held_out_draws(job: Job) -> list[Draw]:
    fixed = replace(job.draws, pairs=len(job.held_out))
    return [validation_draw(fixed, item) for item in range(job.looks)]


KEPT = "held out"  # the name of the reference's errors on its shelf


def start_errors(job: Job, state: State, observer: Observer) -> Errors:
    """The reference's errors on the held-out items, beside those of the policy before its first step.

    A policy that starts as the model has the same, so only one of them runs, and not where an earlier
    training of this model looked at these draws.
    """
    shelf = job.held_out_kept
    if shelf is None or job.objective.needs_cross:
        return validation_errors(job, state, observer, with_reference=True)
    if KEPT in shelf:
        known = job.knowledge.of(held_out_draws(job), job.held_out, job.device)
        width = len(job.held_out[0].pictures)
        errors = Errors(shelf.get(KEPT).to(job.device), None, None, known, width)
    else:
        errors = validation_errors(job, state, observer, reference_alone=True)
        if job.world.leads:
            shelf.add({KEPT: errors.policy.cpu()})
    return replace(errors, reference=errors.policy, distance=torch.zeros_like(errors.policy))


def validate(job: Job, state: State, reference: Errors, observer: Observer) -> Numbers:
    """Numbers of the policy on the held-out items, beside the reference's errors at the same draws."""
    again = job.objective.needs_cross  # its cross term needs both predictions at once
    errors = validation_errors(job, state, observer, with_reference=again)
    return summarise(replace(errors, reference=reference.reference), job.objective, job.beta)


ENDS = ("train, first", "train, last", "validation, first", "validation, last")


def run_training(
    inputs: TrainInputs, world: World = ALONE, *, observer: Observer
) -> tuple[int, list[Numbers]]:
    """Train to the end and export; the first process writes all files.

    Returns:
        The number of training pairs, and the numbers that `ENDS` names; {} at all but the first process.
    """
    set_threads(inputs.threads)
    family = open_family(inputs.model, inputs.revision)
    family.check()
    require_layouts(inputs.settings, family)
    job, state = ready(inputs, family, observer, world)
    if world.leads:
        keep_passes(inputs.out, job)
    with closing(opened(inputs, state, world)) as journal:
        observer.start("train", job.settings.steps, state.step)
        loop(job, state, journal, inputs.out, observer)
        observer.finish()
    numbers = journal.ends()
    if world.leads:
        finish(inputs, job, state, dict(zip(ENDS, numbers, strict=True)))
    return len(job.pairs), numbers


def opened(inputs: TrainInputs, state: State, world: World) -> Journal:
    """Where the numbers go, without those of steps that will be made again."""
    if not world.leads:
        return Journal(None)
    key = json.loads((inputs.out / "settings.json").read_text(encoding="utf-8"))["key"]
    loggers = open_loggers(inputs.settings, inputs.out, key, state.step + 1)
    journal = Journal(MetricsFile(inputs.out / "metrics.jsonl"), loggers)
    journal.rewind(state.step or None)
    return journal


def ready(inputs: TrainInputs, family: Family, observer: Observer, world: World) -> tuple[Job, State]:
    """Everything cached, the model loaded, and the state where an earlier call left it.

    Raises:
        RpoError: the processes do not have the same training before them.
    """
    with world.first():
        job = replace(prepare(inputs, family, observer), world=world)
    job = fitted(job, inputs, observer)
    observer.note(start_line(job))
    if (peak := known_peak(inputs.device, job.settings.dtype)) is not None:
        from rpo_cli.train.look_ahead.plan import ideal_seconds

        folder = Folder(inputs.model, inputs.revision)
        job = replace(job, ideal=ideal_seconds(job.settings, job.objective, family, folder, peak))
    denoiser = family.load_denoiser(weight_dtype(job.settings))
    texts = load_texts(family, job.settings, inputs.device)
    if texts is not None:
        captions = sorted({item.caption for item in (*job.pairs, *job.held_out)})
        tell_too_long(observer, texts.encoders.too_long(captions), len(captions))
    policy = build_policy(denoiser, job.settings, family.lora_targets, inputs.seed, inputs.device, texts)
    with world.first():
        job = with_references(job, policy, inputs.model_identity, inputs.cache, observer)
        if job.looks and inputs.start is None:
            name = held_out_fingerprint(job, inputs.model_identity)
            job = replace(job, held_out_kept=Shelf(inputs.cache / "reference" / name))
    anchor = start_from(policy, family, inputs.start) if inputs.start else None
    job = replace(job, starts_equal=inputs.start is None or inputs.start.adapter == inputs.start.reference)
    state = start_or_resume(job, policy, inputs.out, anchor)
    if world.size > 1:
        what: list[Any] = [
            inputs.settings.model_dump(mode="json", exclude={"processes"}),
            inputs.model_identity,
        ]
        what += [inputs.dataset_identity, inputs.seed, state.step, weights_digest(policy.parameters)]
        world.agree(content_key(*what))
    return job, state


def fitted(job: Job, inputs: TrainInputs, observer: Observer) -> Job:
    """The job with passes that fit into memory, on every process; where it goes on, those of its start.

    What was chosen stands in settings.json, see `keep_passes`.
    """
    kept = passes_of(inputs.out) if latest_checkpoint(inputs.out) else None
    if kept is None:
        folder, settings = Folder(inputs.model, inputs.revision), job.settings
        found = fit(settings, job.objective, job.family, folder, inputs.device)
        for text in found.notes(job.batch_size, settings.gradient_checkpointing):
            observer.note(text)
        kept = found.settings
    values = torch.tensor([[kept["batch_size"]], [kept["gradient_checkpointing"]]], dtype=torch.float32)
    least = job.world.gather(values, [1] * job.world.size) if job.world.size > 1 else values
    size, checkpointing = int(least[0].min()), bool(least[1].max())
    settings = job.settings.model_copy(update={"gradient_checkpointing": checkpointing})
    return replace(job, settings=settings, batch_size=size)


def passes_of(out: Path) -> dict[str, Any] | None:
    """What `keep_passes` wrote; None where that is gone."""
    path = out / "settings.json"
    if not path.exists():
        return None
    found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")).get("passes")
    return found


def keep_passes(out: Path, job: Job) -> None:
    """Write how the training is cut to memory beside what it is; a training that goes on keeps it."""
    path = out / "settings.json"
    passes = {"batch_size": job.batch_size, "gradient_checkpointing": job.settings.gradient_checkpointing}
    whole = json.loads(path.read_text(encoding="utf-8")) | {"passes": passes}
    write_atomically(path, (json.dumps(whole, indent=1, sort_keys=True) + "\n").encode())


def finish(inputs: TrainInputs, job: Job, state: State, ends: dict[str, Numbers]) -> None:
    """Export what was trained."""
    facts = {
        "model": portable_name(inputs.model),
        "model_identity": inputs.model_identity,
        "dataset": inputs.dataset_identity,
        "pairs": len(job.pairs),
        "seed": inputs.seed,
        **({"start": inputs.start.identity} if inputs.start else {}),
    }
    result = inputs.out / (job.family.component if job.settings.full else "adapter")
    state.optimiser.zero_grad(set_to_none=True)  # as much memory as what is read back
    with exported_weights(state):
        export(result, state.policy, job.family, job.settings, job.objective, facts, ends)
    if inputs.start is not None and inputs.start.keep_reference and state.anchor is not None:
        export_reference(inputs.out / "reference", state.policy, job.family, state.anchor)


def add_exports(inputs: TrainInputs | OnlineInputs, adapter: Path) -> None:
    """Write the layouts that a finished LoRA lacks."""
    set_threads(inputs.threads)
    settings = inputs.settings
    family = open_family(inputs.model, inputs.revision)
    require_layouts(settings, family)
    denoiser = family.load_denoiser(weight_dtype(settings))
    texts = load_texts(family, settings, inputs.device)
    policy = build_policy(denoiser, settings, family.lora_targets, inputs.seed, inputs.device, texts)
    lacking = [layout for layout in settings.export if not (adapter / layout).exists()]
    add_layouts(adapter, lacking, policy, family, settings)


def start_line(job: Job) -> str:
    """What is about to happen, with β and its unit."""
    kind = "every weight" if job.settings.full else f"LoRA of rank {job.settings.rank}"
    every = job.objective.reference_every
    kind += " on denoiser and text encoders" if job.settings.text_encoder else ""
    kind += f", reference moves every {every} steps" if every else ""
    items = f"lists of {job.objective.list_size}" if job.objective.listwise else "pairs"
    items = "judged pictures" if job.objective.singles else items
    held_out = f"{len(job.held_out)} held out"
    if job.looks:
        held_out += f", looked at in {job.looks} draws"
    elif job.held_out:
        held_out += ", not looked at: so short a training would spend more than a twentieth on it"
    return (
        f"{job.objective.name} on {len(job.pairs)} {items} ({held_out}), {job.batch_size} a forward pass, "
        f"{kind}, {job.schedule.prediction_type} model; "
        f"{scale_line(job.objective, job.beta, job.cache.shape)}"
    )


def start_or_resume(job: Job, policy: Policy, out: Path, anchor: Average | None = None) -> State:
    """The state to go on from.

    Args:
        anchor: a reference other than the policy's first weights.
    """
    settings = job.settings
    optimiser = make_optimiser(policy.parameters.values(), settings)
    kind = torch.device(job.device).type
    scaler = torch.amp.GradScaler(kind, enabled=settings.dtype == "float16")
    average = Average(policy.parameters, settings.ema) if settings.ema else None
    if anchor is None and job.objective.reference_every:
        anchor = Average(policy.parameters, 0.0)
    state = State(policy, optimiser, scaler, job.batch_size, average=average, anchor=anchor)
    if (path := latest_checkpoint(out)) is not None:
        state.step = restore_checkpoint(path, policy.parameters, optimiser, scaler, averages(state))
        state.batch_size = checkpoint_extra(path).get("batch_size", state.batch_size)
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


def loop(job: Job, state: State, journal: Journal, out: Path, observer: Observer) -> None:
    """Steps, validation before, during and after, checkpoints; the last step is always saved."""
    settings = job.settings
    reference = start_errors(job, state, observer) if job.looks else None
    if state.step == 0 and reference is not None:
        journal.append("validation", 0, summarise(reference, job.objective, job.beta))
    ran_away = False
    while state.step < settings.steps:
        numbers = timed_step(job, state, observer)
        move_averages(job, state)
        journal.append("train", state.step, numbers)
        observer.advance(1, 0)
        if (advice := spread_warning(state.step, numbers.get("logit_std", 1.0))) is not None:
            observer.note(advice)
        if not ran_away and (advice := runaway_warning(state.step, numbers)) is not None:
            observer.note(advice)
            ran_away = True
        if state.skipped:
            observer.note(
                f"step {state.step} is left out: pairs {numbers['skipped_pairs']} are not finite or far out"
            )
        last = state.step == settings.steps
        if reference is not None and (last or state.step % settings.validate_every == 0):
            with exported_weights(state):
                held_out = validate(job, state, reference, observer)
            journal.append("validation", state.step, held_out)
        due = last or (state.step % settings.save_every == 0 and not state.skipped)
        if due and job.world.leads:  # all hold the same; draws have no state
            parameters, extra = state.policy.parameters, {"batch_size": state.batch_size}
            what = (parameters, state.optimiser, state.scaler, averages(state), extra)
            save_checkpoint(out, state.step, *what)

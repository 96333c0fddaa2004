"""`rpo plan`: the steps of a run, done and to come, with what they take; offline, and writes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rpo_cli.errors import RpoError
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.evaluation.models import finished
from rpo_cli.line.model_facts import NOWHERE, ModelFacts, facts_of, know_models, offline
from rpo_cli.line.preflight import require_models
from rpo_cli.line.rates import rates
from rpo_cli.line.run import forecast, steps_of
from rpo_cli.line.session import Line
from rpo_cli.line.steps import stage_of, stages
from rpo_cli.line.work.base import StagePlan, StageSpec, size_of, wants_edits
from rpo_cli.line.work.critics import SERVED, entry_of, is_function, scoring
from rpo_cli.line.work.models import model_of
from rpo_cli.presets.facts import BYTES_PER_PIXEL, TRAINING
from rpo_cli.recipes.weights import HUB_MODELS

PACE = "this run's own pace"
TEXT = 1000  # bytes of a row without a picture: 450 of a critique of the preset shapes, more of longer ones
NO_PAIRS = "follows from the scores"


@dataclass(frozen=True)
class StepPlan:
    """A step, or one reward of it.

    Attributes:
        wanted, to_make: rows, optimiser steps of `train`; None: cannot be told yet.
        basis: what rows are counted from. `bytes`: of the rows to make; None: not known.
        seconds: to make them; None: not known, and `time` says what measures it.
    """

    stage: str
    wanted: int | None
    present: int
    rejected: int
    to_make: int | None
    basis: str
    bytes: int | None
    seconds: float | None
    time: str


@dataclass(frozen=True)
class RunPlan:
    """What a run has and will take.

    Attributes:
        network: what will be asked of it, one sentence each; [] for nothing.
        training_memory: bytes, estimated; None: not known, see `rpo train RUN --dry-run`.
    """

    path: str
    steps: list[StepPlan]
    models: list[ModelFacts]
    network: list[str]
    training_memory: int | None


def plan_run(line: Line, until: str | None = None) -> RunPlan:
    """What `rpo run` would still do, and with what; asks nobody.

    Raises:
        NoModel: a step's model has no name.
        UsageError: no prompts, or a model that is neither a folder nor a hub id.
    """
    steps = steps_of(line, until)
    require_models(line, steps)
    with offline():
        know_models(line)
        from_hub = line.settings.prompts.file is None and line.settings.prompts.dataset is not None
        plans = forecast(line, steps, prompts=not from_hub)
        known = rates(line.store)
        found = [_timed(line, item, known) for item in plans]
        if from_hub and "generate" in steps and "prompts" not in line.store.read_manifest():
            found = [_unknown(item) for item in found]
        found += [_pairs(line)] if "build-pairs" in steps else []
        found += [_training(line)] if "train" in steps else []
        models = [facts_of(role, model, dtype) for role, model, dtype in used(line, steps)]
        asked = list(dict.fromkeys(_network_requests(line, steps, found, models)))
    return RunPlan(
        line.store.url, found, models, asked, _training_memory(line) if "train" in steps else None
    )


def _timed(line: Line, plan: StagePlan, known: dict[str, float]) -> StepPlan:
    pace, rows = known.get(plan.stage), plan.to_make or 0
    spec = stage_of(plan.stage.partition(" ")[0])
    seconds = 0.0 if rows == 0 else rows / pace if pace else None
    how = "unknown until some rows are scored"
    if spec.command == spec.name:
        how = f"unknown: rpo {spec.command} {line.store.url} --probe K measures it"
    size = plan.bytes if plan.bytes is not None or not rows else _estimated(line, spec, rows)
    return StepPlan(
        plan.stage,
        plan.wanted,
        plan.present,
        plan.rejected,
        plan.to_make,
        plan.basis,
        size if rows else 0,
        seconds,
        "nothing to make" if rows == 0 else PACE if pace else how,
    )


def _unknown(plan: StepPlan) -> StepPlan:
    """Of a run whose prompts are a dataset that nobody has read yet."""
    basis = "prompts of the hub, not read yet"
    return StepPlan(plan.stage, None, plan.present, plan.rejected, None, basis, None, None, "unknown")


def _estimated(line: Line, spec: StageSpec, rows: int) -> int | None:
    """Bytes of rows of which there are none yet: pictures by their size."""
    s = line.settings.generate
    if not spec.pictured:
        return rows * TEXT
    if (drawn := size_of(line, "images", rows)) is not None:
        return drawn
    known = HUB_MODELS.get(s.generator or "")
    side = known.side if known else None
    width, height = s.width or side, s.height or side
    if width is None or height is None:
        return None
    return round(rows * width * height * BYTES_PER_PIXEL)


def _pairs(line: Line) -> StepPlan:
    """The dataset as it is; how many pairs scores will give, nobody knows before."""
    verdicts = line.store.tally("pairs", ["verdict"])
    dropped = verdicts["dropped",]
    accepted = verdicts.total() - dropped
    time = "seconds: no model takes part"
    return StepPlan("pairs", None, accepted, dropped, None, NO_PAIRS, None, None, time)


def _training(line: Line) -> StepPlan:
    s = line.settings.train
    done = s.name in finished(line)
    left = 0 if done else s.steps
    basis = f"steps of {s.global_batch:,} pairs, '{s.name}'"
    time = "nothing to make" if done else f"unknown: rpo train {line.store.url} --probe K measures it"
    return StepPlan("train", s.steps, s.steps - left, 0, left, basis, None, 0.0 if done else None, time)


def used(line: Line, steps: Sequence[str]) -> Iterator[tuple[str, ModelIdentity, str]]:
    """(role, model, dtype) of every model of these steps."""
    s = line.settings
    for spec in stages():
        if spec.command in steps:
            yield from spec.models(line)
    if "train" in steps:
        ref, revision = model_of(line, s.train)
        if not ("generate" in steps and ref == s.generate.generator):
            yield "tuned", line.identity(ref, revision), s.train.dtype
        if s.train.embedder:
            yield "embedder", line.identity(s.train.embedder), s.train.dtype


def _network_requests(
    line: Line, steps: Sequence[str], plans: Sequence[StepPlan], models: Sequence[ModelFacts]
) -> Iterator[str]:
    """What the steps will ask of the network, as the line goes."""
    s = line.settings
    if "generate" in steps and s.prompts.file is None and s.prompts.dataset is not None:
        yield f"the hub: prompts of the dataset {s.prompts.dataset}"
    pinned = line.store.read_manifest().get("models", {})
    for model in models:
        if model.here is False:
            size = f", {model.bytes / 1e9:.3g} GB" if model.bytes else ", of unknown size"
            yield f"the hub: a download of {model.ref}{size}"
        elif model.here and not Path(model.ref).exists():
            commit = "of run.json's commit" if model.ref in pinned else "which commit it is"
            yield f"the hub: {model.ref}, {commit}; what is cached will do"
    busy = {plan.stage.partition(" ")[0] for plan in plans if plan.to_make != 0}
    asks = s.critique.backend == SERVED and "critique" in busy and wants_edits(line)
    scored = [name for name, _ in scoring(line) if entry_of(name).template]
    asks |= bool(scored) and s.score.backend == SERVED and "score" in busy
    if asks:
        yield from (f"the critic's server: {url}" for url in s.critique.critic_url)
    if s.edit.backend == SERVED and "edit" in busy and wants_edits(line):
        yield from (f"the editor's server: {url}" for url in s.edit.editor_url)
    if "build-pairs" in steps and any(is_function(name) for name, _ in scoring(line)):
        yield "whatever your own functions of score.functions ask"
    if "train" in steps:
        yield from (
            f"{name}, which train.loggers names" for name in s.train.loggers if name != "tensorboard"
        )


def _training_memory(line: Line) -> int | None:
    """As `rpo train --dry-run` estimates it, where the model's configuration is here."""
    from rpo_cli.line import training
    from rpo_cli.train.look_ahead.plan import plan as plan_training

    told = [name for name in line.resolved.origins if name.startswith("train.")]
    kept = ("default", f"preset {line.resolved.preset}")
    by_preset = TRAINING.get(line.resolved.preset)
    ref, revision = model_of(line, line.settings.train)
    if line.identity(ref, revision).revision == NOWHERE:
        own = all(line.resolved.origins[name] in kept for name in (*told, "generate.generator"))
        return by_preset if own else None
    try:
        settings = training.own_settings(line)
        dataset = training.dataset_of(line, settings)
        return plan_training(settings, dataset=dataset, model=ref, revision=revision).memory_total
    except RpoError:
        return None

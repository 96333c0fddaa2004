"""The steps of the line in order; each can be called again at any time and does only what is missing.

--dry-run and --probe: what a stage would do, and how long it would take.
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from rpo_cli.errors import UsageError, nearest
from rpo_cli.line.dataset.build import PairsReport
from rpo_cli.line.dataset.contact_sheet import draw_contact_sheet
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.preflight import preflight
from rpo_cli.line.session import Line
from rpo_cli.line.stage import StageReport, run_stage
from rpo_cli.line.steps import LAST, every_step, making, stage_of, stages
from rpo_cli.line.training import fine_tune
from rpo_cli.line.work.base import COUNTED, Shard, StagePlan, plan_of
from rpo_cli.line.work.generate import read_planned
from rpo_cli.train.composition import in_rounds
from rpo_cli.train.run import TrainReport


def _train(line: Line) -> TrainReport:
    if not in_rounds(line.settings.train):
        return fine_tune(line)
    from rpo_cli.line.rounds.train import train_rounds  # which walks this line itself

    found = train_rounds(line)
    return TrainReport(found.name, found.steps, found.pairs, found.adapter, skipped=found.skipped)


@dataclass(frozen=True)
class RunReport:
    """What `run` made, step by step."""

    stages: list[StageReport]
    pairs: PairsReport | None
    train: TrainReport | None
    contact_sheet: Path | None


def steps_of(line: Line, until: str | None = None) -> tuple[str, ...]:
    """The steps that `run` walks: without those that the run has no use for.

    Raises:
        UsageError: there is no such step.
    """
    every = every_step()
    if until is not None and until not in every:
        raise UsageError(f"'{until}' is no step{nearest(until, every)}", f"one of {', '.join(every)}")
    steps = every[: every.index(until) + 1] if until else every
    return tuple(step for step in steps if step in LAST or any(spec.used(line) for spec in making(step)))


def run(
    line: Line, until: str | None = None, *, shard: Shard | None = None, allow_missing: bool = False
) -> RunReport:
    """Walk the line: the stages that the run has a use for, build-pairs, train; stop after `until`.

    Args:
        allow_missing: see `run_stage` and `build_pairs`.
    """
    steps = steps_of(line, until)
    preflight(line, steps)
    with line.training_kept() if "train" in steps else nullcontext():
        return _walked(line, steps, shard, allow_missing)


def _walked(line: Line, steps: Sequence[str], shard: Shard | None, allow_missing: bool) -> RunReport:
    stages = [
        run_stage(line, spec.name, shard=shard, allow_missing=allow_missing)
        for step in steps
        for spec in making(step)
    ]
    pairs = train_report = sheet = None
    if "build-pairs" in steps:
        pairs = build_pairs(line, allow_missing=allow_missing)
        sheet = draw_contact_sheet(line)
    if "train" in steps:
        train_report = _train(line)
    return RunReport(stages, pairs, train_report, sheet)


@dataclass(frozen=True)
class Probe:
    """Rate of a stage and what the rest of it would take.

    Attributes:
        full_round: rows that are at work at a time.
        recorded: whether the rate is one, without loading the model; else of fewer than two full rounds,
            loading included, and the run keeps what it knew.
    """

    stage: str
    rows: int
    seconds: float
    rows_per_second: float
    remaining: int
    remaining_hours: float
    remaining_bytes: int | None
    full_round: int = 1
    recorded: bool = True


def plan(
    line: Line, names: list[str], *, shard: Shard | None = None, retry_rejects: bool = False
) -> list[StagePlan]:
    """One plan per model of the named stages; loads no model and writes nothing.

    Args:
        shard, retry_rejects: see `run_stage`.
    """
    found = [stage_of(name) for name in names]
    for spec in found:
        spec.planned(line)
    return [
        plan_of(line, work, shard, retry_rejects=retry_rejects)
        for spec in found
        for work in spec.works(line)
    ]


def probe(line: Line, name: str, rows: int) -> Probe:
    """Make `rows` rows of a stage (they are kept), then extrapolate from their rate."""
    report = run_stage(line, name, limit=rows)
    rate = report.rate or (report.made / report.seconds if report.made else 0.0)
    plans = plan(line, [name])
    remaining = sum(item.to_make or 0 for item in plans)
    sizes = [item.bytes for item in plans if item.bytes is not None]
    hours = remaining / rate / 3600 if rate else 0.0
    size = sum(sizes) if sizes else None
    recorded = report.rate is not None
    return Probe(
        name, report.made, report.seconds, rate, remaining, hours, size, report.full_round, recorded
    )


def forecast(line: Line, steps: Sequence[str], *, prompts: bool = True) -> list[StagePlan]:
    """One plan per model of the steps of `run` that make rows; loads no model and writes nothing.

    Counted from the funnel so far (rows a stage has made of the rows before it), else from stated yields.

    Args:
        steps: see `run.steps_of`.
        prompts: read the prompts' source; without, those that the run has are planned with.
    """
    if "generate" in steps and prompts:
        read_planned(line)
    coming: dict[str, int] = defaultdict(int)  # stage → rows to come that later stages see
    plans: list[StagePlan] = []
    for spec in stages():
        if spec.command in steps:
            found = [plan_of(line, work) for work in spec.works(line)]
            if spec.ahead:
                found = spec.ahead(line, found, coming)
            elif any(coming.values()):  # a plugin's, which does not say what comes of them
                found = [replace(plan, basis=f"{COUNTED}, of which more are to come") for plan in found]
            plans += found
    return plans

"""--dry-run and --probe: what a stage would do, and how long it would take."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rpo_cli.line.session import Line
from rpo_cli.line.stage import run_stage
from rpo_cli.line.steps import stage_of, stages
from rpo_cli.line.work.base import COUNTED, Shard, StagePlan, plan_of
from rpo_cli.line.work.generate import read_planned


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

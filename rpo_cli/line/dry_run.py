"""--dry-run and --probe: what a stage would do, and how long it would take."""

from dataclasses import dataclass

from rpo_cli.line.session import Line
from rpo_cli.line.stage import run_stage
from rpo_cli.line.steps import stage_of
from rpo_cli.line.work.base import Shard, StagePlan, plan_of


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

"""--dry-run and --probe: what a stage would do, and how long it would take."""

from dataclasses import dataclass

from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.context import Line
from rpo_cli.line.counters import counter_notes
from rpo_cli.line.stage import run_stage
from rpo_cli.line.work import Work, works


@dataclass(frozen=True)
class StagePlan:
    """What a stage would do now, from the rows that are there upstream.

    Attributes:
        bytes: estimated size of the rows to make, from the rows that are there; None without any.
    """

    stage: str
    wanted: int
    present: int
    rejected: int
    to_make: int
    models: list[str]
    bytes: int | None


@dataclass(frozen=True)
class Probe:
    """Measured rate of a stage and what the rest of it would take; loading the model is counted apart."""

    stage: str
    rows: int
    seconds: float
    rows_per_second: float
    remaining: int
    remaining_hours: float
    remaining_bytes: int | None


def plan(line: Line, names: list[str]) -> list[StagePlan]:
    """One plan per model of the named stages; loads no model and writes nothing."""
    if "generate" in names:
        found = read_prompts(line.settings.prompts)
        line.planned = sorted((prompt.prompt_id, prompt.prompt) for prompt in found)
    for note in counter_notes(line) if "edit" in names else ():
        line.observer.note(note)
    return [_plan(line, work) for name in names for work in works(line, name)]


def _plan(line: Line, work: Work) -> StagePlan:
    present = len(work.keys & line.store.keys(work.table))
    rejected = len(work.keys & line.store.rejected(work.name))
    to_make = len(work.tasks) - len(
        work.keys & (line.store.keys(work.table) | line.store.rejected(work.name))
    )
    models = [f"{model.ref} ({model.revision[:16]})" for model in work.models]
    size = _row_bytes(line, work.table)
    estimate = round(size * to_make) if size is not None else None
    return StagePlan(work.name, len(work.tasks), present, rejected, to_make, models, estimate)


def _row_bytes(line: Line, table: str) -> float | None:
    rows = sum(line.store.counts(table).values())
    return line.store.size(table) / rows if rows else None


def probe(line: Line, name: str, rows: int) -> Probe:
    """Make `rows` rows of a stage (they are kept), then extrapolate from their rate without loading."""
    report = run_stage(line, name, limit=rows)
    rate = report.rate or (report.made / report.seconds if report.made else 0.0)
    plans = plan(line, [name])
    remaining = sum(item.to_make for item in plans)
    sizes = [item.bytes for item in plans if item.bytes is not None]
    hours = remaining / rate / 3600 if rate else 0.0
    return Probe(name, report.made, report.seconds, rate, remaining, hours, sum(sizes) if sizes else None)

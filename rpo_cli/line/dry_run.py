"""--dry-run and --probe: what a stage would do, and how long it would take."""

from dataclasses import dataclass

from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.session import Line
from rpo_cli.line.stage import Shard, run_stage, share_of
from rpo_cli.line.steps import works
from rpo_cli.line.work.base import Work, reject_reasons
from rpo_cli.line.work.counter_edits import counter_notes

COUNTED = "the rows before it"


@dataclass(frozen=True)
class StagePlan:
    """What a stage would do now, from the rows that are there upstream.

    Attributes:
        wanted, to_make: rows; None where nobody can tell yet.
        bytes: estimated size of the rows to make, from the rows that are there; None without any.
        basis: what rows are counted from; see `forecast.py` for those whose pictures are not made yet.
    """

    stage: str
    wanted: int | None
    present: int
    rejected: int
    to_make: int | None
    models: list[str]
    bytes: int | None
    basis: str = COUNTED


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
    if "generate" in names:
        take_planned(line)
    for note in counter_notes(line) if "edit" in names else ():
        line.observer.note(note)
    return [
        plan_of(line, work, shard, retry_rejects=retry_rejects)
        for name in names
        for work in works(line, name)
    ]


def take_planned(line: Line) -> None:
    """Read the prompts that `generate` would take into the run, and take none."""
    found = read_prompts(line.settings.prompts)
    for text in () if line.nested else found.said():
        line.say(text)
    line.planned = sorted((prompt.prompt_id, prompt.prompt) for prompt in found.prompts)


def plan_of(
    line: Line, work: Work, shard: Shard | None = None, *, retry_rejects: bool = False
) -> StagePlan:
    """What a call of one model's stage would do now."""
    share = share_of(line, work, shard, retry_rejects=retry_rejects)
    models = [f"{model.ref} ({model.revision[:16]})" for model in work.models]
    rejected = sum(reject_reasons(line, work, share.keys).values())
    to_make = len(share.missing)
    return StagePlan(
        work.name,
        len(share.wanted),
        len(share.present),
        rejected,
        to_make,
        models,
        size_of(line, work.table, to_make),
    )


def size_of(line: Line, table: str, rows: int) -> int | None:
    """Bytes of so many rows, by those that the table has; None where it has none."""
    each = sum(line.store.counts(table).values())
    return round(line.store.size(table) / each * rows) if each else None


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

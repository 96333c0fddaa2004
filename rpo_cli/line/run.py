"""The steps of the line in order; each can be called again at any time and does only what is missing."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from rpo_cli.errors import UsageError, nearest
from rpo_cli.line.dataset.build import PairsReport
from rpo_cli.line.dataset.contact_sheet import draw_contact_sheet
from rpo_cli.line.dataset.inputs import build_pairs
from rpo_cli.line.preflight import preflight
from rpo_cli.line.session import Line
from rpo_cli.line.stage import StageReport, run_stage
from rpo_cli.line.steps import LAST, every_step, making
from rpo_cli.line.training import fine_tune
from rpo_cli.line.work.base import Shard
from rpo_cli.train.run import TrainReport


def _train(line: Line) -> TrainReport:
    from rpo_cli.line.rounds.checks import in_rounds

    if not in_rounds(line):
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

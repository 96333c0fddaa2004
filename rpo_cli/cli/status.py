"""`rpo status`: what is done, missing, rejected and old; and the two ways to tidy up."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step
from rpo_cli.cli.output import Output, counted, duration, folded, size, table

if TYPE_CHECKING:
    from rpo_cli.line.imports.sources import ImportedSource
    from rpo_cli.line.status import RunStatus, StageStatus

NARROW = "\N{NO-BREAK SPACE}"  # inside an item of a list that is folded


def status(
    context: typer.Context,
    run: o.ExistingRun,
    prune: Annotated[bool, typer.Option("--prune", help="Drop the rows of older settings.")] = False,
    compact: Annotated[bool, typer.Option("--compact", help="Join small parts into large ones.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Say what is done in RUN, what is missing, and what was rejected and why.

    Example: rpo status demo --prune
    """
    from rpo_cli.line import status as line

    say = step.console(context)
    tidied: dict[str, Mapping[str, int]] = {}
    if prune:
        tidied["pruned"] = line.prune(run)
        reports.counts(say, "dropped", tidied["pruned"])
    if compact:
        tidied["compacted"] = line.compact(run)
        reports.counts(say, "files joined", tidied["compacted"])
    print_status(say, line.status(run), tidied)


def print_status(
    say: Output, found: "RunStatus", tidied: Mapping[str, Mapping[str, int]] | None = None
) -> None:
    """The funnel, what is old, where things are, the command to type; in JSON also what was tidied."""
    say.result({**asdict(found), **(tidied or {})}, "\n".join(_lines(found)), essence=found.next or "")
    if any(s.stale for s in found.stages):
        say.hint("rows of older settings take no part in the run; `rpo status RUN --prune` drops them")


def _lines(found: "RunStatus") -> list[str]:
    header = ["stage", "wanted", "present", "missing", "rejected", "older", "size", "rows/s", "left"]
    rows = [
        [
            *[s.stage, _known(s.wanted), s.present, _known(s.missing), s.rejected, s.stale, size(s.bytes)],
            "" if s.rate is None else f"{s.rate:.3g}",
            left(s.missing, s.rate),
        ]
        for s in found.stages
    ]
    disk = ", ".join(f"{name}{NARROW}{size(count)}" for name, count in found.disk.items())
    return [
        f"{found.path}: preset {found.preset}, {found.prompts:,} prompts",
        table(header, rows),
        *(f"{s.stage}: {s.problem}" for s in found.stages if s.problem),
        *(_source(item) for item in found.sources),
        *(_floor(s) for s in found.stages if s.floor),
        *(f"{s.stage} rejected: {counted(s.rejects)}" for s in found.stages if s.rejects),
        *_pairs(found),
        *map(folded, _after(found)),
        folded(f"disk: {disk or 'nothing yet'}"),
        *([f"next: {found.next}"] if found.next else []),
    ]


def _floor(stage: "StageStatus") -> str:
    return f"edit floor: {stage.floor:,} of the {stage.present:,} edits, under an empty instruction"


def _source(item: "ImportedSource") -> str:
    """What --withdraw calls it, and what it gave."""
    rows = "" if item.rows is None else f", {item.rows:,} rows"
    withdrawn = ", withdrawn" if item.withdrawn else ""
    return f"imported {item.id}: {item.source} as {item.format}{rows}, licence {item.license}{withdrawn}"


def _pairs(found: "RunStatus") -> list[str]:
    """The end of the funnel, with the reasons of what was dropped on the way."""
    lines = []
    if found.pairs:
        reasons = counted(found.dropped).replace(" ", NARROW).replace(f",{NARROW}", ", ")
        dropped = f"; dropped: {reasons}" if reasons else ""
        lines = [folded(f"pairs: {found.accepted:,} of {found.pairs:,} candidates accepted{dropped}")]
    lines.append(f"dataset: {found.dataset or 'none yet'}")
    if found.current is False:
        lines.append("the dataset is older than rows, verdicts or settings")
    return lines


def _after(found: "RunStatus") -> list[str]:
    """Trainings and evaluations."""
    lines = [f"trained: {', '.join(found.trained) or 'nothing yet'}"]
    if found.outdated:
        lines.append(f"trained on other pairs than the dataset has now: {', '.join(found.outdated)}")
    lines += [f"rounds of {r.name}: {r.done} of {r.rounds} done" for r in found.rounds]
    lines += [f"evaluated: {', '.join(found.evaluated)}"] if found.evaluated else []
    return lines + ([f"labels judged: {', '.join(found.audited)}"] if found.audited else [])


def left(missing: int | None, rate: float | None) -> str:
    """How long missing rows take at the pace of the last call: "40 s", "12 min", "3.5 h"; "" unknown."""
    return duration(missing / rate) if missing and rate else ""


def _known(count: int | None) -> int | str:
    return "?" if count is None else count

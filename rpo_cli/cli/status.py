"""`rpo status`: what is done, missing, rejected and old; and the two ways to tidy up."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step


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
    if prune:
        reports.counts(say, "dropped", line.prune(run))
    if compact:
        reports.counts(say, "files joined", line.compact(run))
    reports.status(say, line.status(run))

"""`rpo merge`: rows that other machines made for the same run."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import counted


def merge(
    context: typer.Context,
    run: o.ExistingRun,
    others: Annotated[list[str], typer.Argument(metavar="OTHER...", help="Run directories of shards.")],
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Copy the rows of OTHER runs that RUN lacks into RUN; a row that both have is taken once.

    Example: rpo merge demo demo-shard-1 demo-shard-2
    """
    from rpo_cli.line.merge import merge as join

    copied = join(run, others)
    text = f"copied: {counted(copied) or 'nothing'}"
    step.console(context).result(copied, text)

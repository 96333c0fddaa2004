"""`rpo merge`: rows that other machines made for the same run."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import counted


def merge(
    context: typer.Context,
    run: o.RunDir,
    others: Annotated[list[str], typer.Argument(metavar="OTHER...", help="Run directories of shards.")],
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Copy into RUN the parts of OTHER runs that RUN lacks; a row that both have counts once.

    Example: rpo merge demo demo-shard-1 demo-shard-2
    """
    from rpo_cli.line.merge import merge as join

    copied = join(run, others)
    say = step.console(context)
    say.result(copied, f"parts copied: {counted(copied) or 'none'}")
    step.status(say, run)

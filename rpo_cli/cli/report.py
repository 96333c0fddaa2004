"""`rpo report`: the run as pages to look at."""

from pathlib import Path
from typing import Annotated

import typer

from rpo_cli.cli import onward, step
from rpo_cli.cli import options as o


def report(
    context: typer.Context,
    run: o.ExistingRun,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write; RUN/report unless given.", show_default=False),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=4, help="Pairs to show with pictures, at most.")
    ] = 200,
    price_per_hour: Annotated[
        float | None,
        typer.Option(
            metavar="X", min=0, help="Of the machine: tells what each stage costs.", show_default=False
        ),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write RUN as static pages: funnel, pairs side by side, rewards, training curves, provenance.

    Example: rpo report demo --out demo-report
    """
    from rpo_cli.line.report import write_report

    say = step.console(context)
    found = write_report(run, out, shown=limit, price_per_hour=price_per_hour, observer=say.observer())
    text = f"report: {found.pairs:,} pairs counted, {found.shown:,} shown, {found.pages:,} pages"
    say.result(found, f"{text}\nopen: {found.path}", essence=found.path)
    onward.status(say, run)

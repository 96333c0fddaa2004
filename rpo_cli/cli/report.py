"""`rpo report`: the run as pages to look at."""

from pathlib import Path
from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import pair_options as p
from rpo_cli.cli import step
from rpo_cli.cli.output import folded


def report(
    context: typer.Context,
    run: o.ExistingRun,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write; RUN/report unless given.", show_default=False),
    ] = None,
    prompt: p.Prompt = None,
    flaw: p.Flaw = None,
    kind: p.Kind = None,
    reward: p.Reward = None,
    margin_below: p.MarginBelow = None,
    margin_above: p.MarginAbove = None,
    gate: p.Gate = None,
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
    from rpo_cli.line.report.build import write_report

    say, asked = step.console(context), p.filter_of(context.params)
    found = write_report(
        run, out, asked=asked, shown=limit, price_per_hour=price_per_hour, observer=say.observer()
    )
    if found.path is None:
        say.result(found, folded(f"{p.none_matches(asked, found.total)}; no report was written"))
        return
    of, said = (f" of {found.total:,}", f" ({asked.words})") if asked else ("", "")
    text = f"report: {found.pairs:,}{of} pairs counted{said}, {found.shown:,} shown, {found.pages:,} pages"
    say.result(found, f"{text}\nopen: {found.path}", essence=found.path)
    step.status(say, run)

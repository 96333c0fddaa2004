"""`rpo export`: the dataset in the files that other tools read."""

from pathlib import Path
from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step


def export(
    context: typer.Context,
    run: o.ExistingRun,
    format: Annotated[str, typer.Argument(metavar="FORMAT", help="For whom: `rpo list exporters`.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write; RUN/export/FORMAT.", show_default=False),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write RUN's dataset as pickapic, imagefolder, webdataset, kto, simpletuner, trl or jsonl.

    Example: rpo export demo webdataset --out demo-tars
    """
    from rpo_cli.line.dataset.export import export as write
    from rpo_cli.line.session import open_line

    say = step.console(context)
    line = open_line(run, create=False, observer=say.observer(), uses=())
    reports.exported(say, write(line, format, out))
    step.status(say, run)

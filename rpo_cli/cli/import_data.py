"""`rpo import`: other people's pictures and judgements."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step


def import_data(
    context: typer.Context,
    run: o.RunDir,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="File or folder, or OWNER/NAME[@REVISION] of the hub.")
    ],
    format: Annotated[
        str | None, typer.Option(help="See `rpo list importers`; found out.", show_default=False)
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of the data; train where there is one.", show_default=False)
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Pictures of a source that has none.", show_default=False),
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Column that holds the prompt.", show_default=False)
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Of the data; its own card says it.", show_default=False)
    ] = None,
    rows: Annotated[
        int | None, typer.Option(min=1, help="Only the first N rows.", show_default=False)
    ] = None,
    preset: o.Preset = None,
    config: o.Config = None,
    assign: o.Assign = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Take pictures, pairs, human labels and human critiques into RUN; again: only what is missing.

    Example: rpo import demo yuvalkirstain/pickapic_v2 --rows 500 && rpo critique demo
    """
    from rpo_cli.line.importing import import_source

    line = step.opened(context, "import")
    found = import_source(
        line,
        source,
        format=format,
        limit=rows,
        split=split,
        images=images,
        column=column,
        license=license,
    )
    reports.imported(step.console(context), found)

"""`rpo import`: other people's pictures and judgements."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step
from rpo_cli.errors import UsageError

# parameter → option; those of the first line are not named like options that stand for settings of a run
READ = {
    "rows": "limit",
    "of_column": "column",
    "of": "encoding",
    "between": "delimiter",
    "quotes": "quoting",
    **{name: name for name in ("source", "format", "split", "images", "map", "license", "rehash")},
    "preset": "preset",
    "config": "config",
    "assign": "set",
}


Source = Annotated[
    str | None,
    typer.Argument(
        metavar="SOURCE",
        help="File, folder, archive or run, or OWNER/NAME[@REVISION] of the hub.",
        show_default=False,
    ),
]
Format = Annotated[
    str | None,
    typer.Option(help="Of the source; found out if not given: `rpo list importers`.", show_default=False),
]
Split = Annotated[
    str | None, typer.Option(help="Split of the data; train where there is one.", show_default=False)
]
Images = Annotated[
    str | None,
    typer.Option(metavar="DIR", help="Pictures of a source that has none.", show_default=False),
]
Column = Annotated[
    str | None, typer.Option("--column", help="Column that holds the prompt.", show_default=False)
]
Map = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROLE=COLUMN",
        help="What columns mean, comma-separated: caption, image, images, chosen, rejected, a, b, winner, "
        "share, label_0, label, score, rank, model, id.",
        show_default=False,
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option("--encoding", help="Of text and tables that are not UTF-8.", show_default=False),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter", help="Of a csv or tsv: a character, comma, semicolon, tab, pipe.", show_default=False
    ),
]
Quoting = Annotated[
    str | None,
    typer.Option("--quoting", help="Of a csv or tsv: rfc4180 or none.", show_default=False),
]
License = Annotated[str | None, typer.Option(help="Of the data; its own card says it.", show_default=False)]
# not named `limit`, which stands for the setting prompts.limit
Rows = Annotated[
    int | None, typer.Option("--limit", min=1, help="Only the first N rows.", show_default=False)
]
Withdraw = Annotated[
    str | None,
    typer.Option(metavar="SOURCE", help="Take a source out of RUN instead.", show_default=False),
]
Rehash = Annotated[bool, typer.Option("--rehash", help="Read every row again; trust no remembered hash.")]


def import_data(
    context: typer.Context,
    run: o.RunDir,
    source: Source = None,
    format: Format = None,
    split: Split = None,
    images: Images = None,
    of_column: Column = None,
    map: Map = None,
    of: Encoding = None,
    between: Delimiter = None,
    quotes: Quoting = None,
    license: License = None,
    rows: Rows = None,
    withdraw: Withdraw = None,
    rehash: Rehash = False,
    preset: o.Preset = None,
    config: o.Config = None,
    assign: o.Assign = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Take pictures, pairs, human labels and human critiques into RUN; again: what has changed.

    Example: rpo import demo yuvalkirstain/pickapic_v2 --limit 500 && rpo critique demo
    """
    if withdraw is not None:
        _withdraw(context, run, withdraw)
        return
    if source is None:
        raise UsageError("no SOURCE is given", "rpo import RUN SOURCE, or rpo import RUN --withdraw SOURCE")
    from rpo_cli.exchange.importers.layouts import read_map
    from rpo_cli.line.imports.run import import_source

    columns = read_map(map or ())
    if of_column is not None and "caption" in columns:
        raise UsageError("--column and --map caption= both name the prompt's column", "give one of them")
    if quotes not in (None, "rfc4180", "none"):
        raise UsageError(f"--quoting {quotes}: not one of rfc4180, none", "leave it out: the rule finds it")
    line = step.opened(context, "import")
    found = import_source(
        line,
        source,
        format=format,
        limit=rows,
        split=split,
        images=images,
        column=of_column,
        columns=columns,
        encoding=of,
        delimiter=between,
        quoting=quotes,  # type: ignore[arg-type]
        license=license,
    )
    say = step.console(context)
    reports.imported(say, found)
    step.after(context, say, line, "import")


def _withdraw(context: typer.Context, run: str, name: str) -> None:
    given = [option for name, option in READ.items() if context.params.get(name)]
    if given:
        raise UsageError(
            f"--withdraw takes a source out and reads none: {', '.join(given)} cannot stand beside it",
            f"rpo import {run} --withdraw {name}",
        )
    from rpo_cli.line.imports.sources import withdraw
    from rpo_cli.line.session import open_line

    say = step.console(context)
    reports.withdrawn(say, withdraw(open_line(run, create=False, observer=say.observer(), uses=()), name))
    step.status(say, run)

"""`rpo upgrade`: a run of an earlier rpo to the format of this one."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import counted

if TYPE_CHECKING:
    from rpo_cli.line.upgrade import Upgrade


def upgrade(
    context: typer.Context,
    run: o.ExistingRun,
    dry_run: o.DryRun = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Bring RUN, made by an earlier rpo, to the format of this one; say which rows are made again.

    Example: rpo upgrade demo --dry-run
    """
    from rpo_cli.line.upgrade import upgrade as bring

    say, found = step.console(context), bring(run, dry_run=dry_run)
    for note in dict.fromkeys(note for each in found for note in each.notes):
        say.hint(note)
    say.result([asdict(each) for each in found], "\n".join(map(_line, found)), essence=run)
    if dry_run and any(each.before < each.after for each in found):
        say.hint("nothing was changed yet")
        step.again(context, say, ["--dry-run"])
    else:
        step.status(say, run)


def _line(found: "Upgrade") -> str:
    if found.before == found.after:
        return f"{found.path}: is of format {found.after} already; nothing to do"
    return (
        f"{found.path}: format {found.before} to {found.after}; "
        f"kept: {counted(found.rows) or 'no rows'}, {found.rekeyed:,} of them under another key; "
        f"to be made again: {counted(found.again) or 'none'}"
    )

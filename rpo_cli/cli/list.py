"""`rpo list`: every name that a user can type, or one of them as a block."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.item import block, item_of
from rpo_cli.cli.names import KINDS, names_of
from rpo_cli.cli.output import listing
from rpo_cli.errors import UsageError, nearest

# kind → what its table tells beside name and summary; the block tells all
COLUMNS = {
    "objectives": "defaults",
    **dict.fromkeys(("critics", "rewards", "editors", "generators"), "usable"),
}
TITLES = {"defaults": "defaults", "usable": "usable here"}


def list_names(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=", ".join(KINDS), show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One of them, with all that is known.", show_default=False),
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """List generators, critics, editors, rewards, engines, objectives, presets, templates and so on.

    With NAME: one as a block, with formula, settings, licences, sources.

    Example: rpo list objectives dpo
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"'{kind}' is no kind{nearest(kind, KINDS)}", f"one of {', '.join(KINDS)}")
    say = step.console(context)
    if kind is not None and name is not None:
        item = item_of(kind, name)
        say.result(item, block(item), essence=str(item.get("place", name)))
        return
    found = [each for one in ([kind] if kind else KINDS) for each in names_of(one)]
    more = COLUMNS.get(kind or "")
    header = ["name", "what it is", *([TITLES[more]] if more else [])]
    rows = [[each.name, each.summary, *([getattr(each, more)] if more else [])] for each in found]
    if kind is None:
        header, rows = ["kind", *header], [[each.kind, *row] for each, row in zip(found, rows, strict=True)]
    text = listing(header, rows, keys=1 if kind else 2)
    say.result(found, text, essence="\n".join(each.name for each in found))
    say.hint(f"one with all that is known of it: rpo list {kind or 'KIND'} NAME")

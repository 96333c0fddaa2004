"""`rpo list`: every name that a user can type, with what its source says of it; loads no model library."""

from dataclasses import dataclass
from typing import Annotated

import typer

from rpo_cli import registry, templates
from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.explain import explain
from rpo_cli.cli.output import table
from rpo_cli.errors import UsageError, nearest

KINDS = [*registry.KINDS, "templates"]


@dataclass(frozen=True)
class Name:
    kind: str
    name: str
    summary: str
    source: str


def list_names(
    context: typer.Context,
    kind: Annotated[
        str | None, typer.Argument(metavar="KIND", help=", ".join(KINDS), show_default=False)
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """List generators, critics, editors, rewards, engines, objectives, presets, templates, measures.

    Example: rpo list rewards
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"'{kind}' is no kind{nearest(kind, KINDS)}", f"one of {', '.join(KINDS)}")
    found = [name for each in ([kind] if kind else KINDS) for name in names_of(each)]
    rows = [[name.kind, name.name, name.summary, name.source] for name in found]
    text = table(["kind", "name", "what it is", "source"], rows)
    step.console(context).result(found, text, essence="\n".join(name.name for name in found))


def names_of(kind: str) -> list[Name]:
    """The names of a kind with what their own source says about them."""
    if kind == "templates":
        return [Name(kind, style, "critique style", "") for style in templates.styles()]
    return [Name(kind, name, *explain(place)) for name, place in registry.names(kind).items()]

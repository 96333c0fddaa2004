"""The last line of a command: what to type next, as it works when it is typed."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from rpo_cli.cli.output import Output

if TYPE_CHECKING:
    from rpo_cli.line.session import Line

ARGUMENTS = "rpo arguments"  # where a call keeps its words, beside what typer keeps there
WITH_VALUE = ("--probe",)


def after(context: typer.Context, say: Output, line: "Line", command: str) -> None:
    """The next step of the line; none after a share of the rows, which waits for the others."""
    from rpo_cli.line.status import following

    if not context.params.get("shard"):
        tell(say, f"{following(line, command)}{_config(context)}")


def status(say: Output, run: str) -> None:
    """Of a command that may stand anywhere in the line: status knows."""
    tell(say, f"rpo status {shlex.quote(run)}")


def again(context: typer.Context, say: Output, without: Sequence[str], *extra: str) -> None:
    """The same words without those that asked to look ahead."""
    words = (context.find_root().obj or {}).get(ARGUMENTS)
    if words is None:
        return
    kept: list[str] = []
    skip = False
    for word in words:
        name, equals, _ = word.partition("=")
        if not skip and name not in without:
            kept.append(word)
        skip = not skip and name in without and name in WITH_VALUE and not equals
    tell(say, shlex.join(["rpo", *kept, *extra]))


def tell(say: Output, command: str) -> None:
    say.hint(f"next: {command}")


def _config(context: typer.Context) -> str:
    """A file of settings counts for the command that names it alone."""
    config = context.params.get("config")
    return "" if config is None else f" --config {shlex.quote(str(config))}"

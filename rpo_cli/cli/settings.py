"""`rpo settings`: every setting with its value, unit and origin."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import Output, table

if TYPE_CHECKING:
    from rpo_cli.line.settings import SettingValue

Key = Annotated[
    str | None, typer.Argument(metavar="[KEY]", help="One setting, or a section.", show_default=False)
]
Changed = Annotated[bool, typer.Option("--changed", help="Only those that are not at their default.")]
Name = Annotated[
    str | None,
    typer.Option(metavar="TRAINING", help="Of this training; default: 'default'.", show_default=False),
]
HEADER = ("setting", "value and unit", "from")
WIDEST = 27  # characters of a value with its unit
BELONGS = {
    "run": "the run: an option for it counts until it is given again, or --unset",
    "training": "the training of its name: an option for it counts for that one",
    "command": "the command: an option for it counts once; rpo.toml keeps it",
}


def settings(
    context: typer.Context,
    run: o.ExistingRun,
    key: Key = None,
    changed: Changed = False,
    name: Name = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Print what the next command on RUN would work with, and where each value is from.

    Example: rpo settings demo --changed
    """
    from rpo_cli.line.session import open_line
    from rpo_cli.line.settings import settings_of

    say = step.console(context)
    named = {} if name is None else {"train.name": name}
    line = open_line(run, named, create=False, uses=())
    found = [item for item in settings_of(line, key) if item.changed or not changed]
    if len(found) == 1 and key == found[0].name:
        one(say, found[0])
    else:
        every(say, found)


def every(say: Output, found: "list[SettingValue]") -> None:
    sections = dict.fromkeys(item.name.partition(".")[0] for item in found)
    parts = [
        f"[{section}]\n"
        + table(HEADER, [row(item) for item in found if item.name.startswith(f"{section}.")])
        for section in sections
    ]
    say.result({"settings": found}, "\n\n".join(parts) or "every setting is at its default")


def row(item: "SettingValue") -> tuple[str, str, str]:
    """A line of at most 80 characters."""
    value = shown(item.value)
    told = value if value == "none" or not item.unit else f"{value} {item.unit}"
    return item.name.partition(".")[2], cut(told, WIDEST), cut(item.origin, WIDEST + 3)


def one(say: Output, item: "SettingValue") -> None:
    lines = [
        f"{item.name} = {shown(item.value)}{f' ({item.unit})' if item.unit else ''}",
        f"  from: {item.origin}",
        f"  default: {shown(item.default)}",
        f"  {o.describe(item.name)}",
        f"  belongs to {BELONGS[item.belongs_to]}",
        *([f"  hangs on: {', '.join(item.hangs_on)}"] if item.hangs_on else []),
    ]
    say.result(item, "\n".join(lines), essence=shown(item.value))


def shown(value: Any) -> str:
    """As a user would write it; "none" for no value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return " ".join(map(shown, value)) or "none"
    if isinstance(value, dict):
        return " ".join(f"{key}={shown(each)}" for key, each in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def cut(text: str, width: int) -> str:
    """A text that is too long: of a path the end tells most, of all else the beginning."""
    if len(text) <= width:
        return text
    return f"…{text[1 - width :]}" if "/" in text and " " not in text else f"{text[: width - 1]}…"

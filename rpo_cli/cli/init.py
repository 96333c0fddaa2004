"""`rpo init`: a commented rpo.toml, generated from the settings, and the package's templates."""

import json as json_text
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from rpo_cli import registry, templates
from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.config import Settings
from rpo_cli.resolve import NO_PRESET, resolve
from rpo_cli.scopes import TRUSTING

LIMITS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}


def init(
    context: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Made when there is none.")],
    preset: Annotated[str, typer.Option(help="Settings to start from: `rpo list presets`.")] = NO_PRESET,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write DIR/rpo.toml with every setting explained, and DIR/templates/ to edit; overwrites nothing.

    Example: rpo init demo --preset shapes && rpo run demo
    """
    registry.locate("presets", preset)
    files = {Path("rpo.toml"): toml(preset), **_templates()}
    made = [str(directory / name) for name, text in files.items() if _write_new(directory / name, text)]
    kept = [str(directory / name) for name in files if str(directory / name) not in made]
    text = "\n".join([*(f"made {path}" for path in made), *(f"kept {path}" for path in kept)])
    say = step.console(context)
    say.result({"made": made, "kept": kept}, text, essence=str(directory))
    step.tell(say, shlex.join(["rpo", "run", str(directory)]))


def _write_new(path: Path, text: str) -> bool:
    """Make a file that is not there yet; False when it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        return False
    return True


def _templates() -> dict[Path, str]:
    return {
        Path(templates.FOLDER, f"{name}.txt"): templates.find(name).text + "\n"
        for name in templates.names()
    }


def toml(preset: str) -> str:
    """rpo.toml for a preset: its line active, every setting commented out with the value in force."""
    values = resolve({}, preset=preset).settings.model_dump(mode="json")
    lines = [
        "# Settings of this run; an option on the command line wins over a line here.",
        "# Every line that is commented out shows the value in force without it. A path is relative to",
        '# this file; KEY = "default" is the setting\'s own default, whatever the preset has.',
        f"preset = {json_text.dumps(preset)}",
    ]
    for section, table in values.items():
        about = (Settings.model_fields[section].annotation.__doc__ or "").partition(": ")[2]
        lines += ["", f"# {about}", f"[{section}]"]
        for key, value in table.items():
            name = f"{section}.{key}"
            shown = "" if name in TRUSTING else _literal(value)  # a run directory cannot say whom to trust
            lines += [f"# {_explained(name)}", f"# {key} = {shown}".rstrip()]
    return "\n".join(lines) + "\n"


def _explained(setting: str) -> str:
    field = o.fields()[setting]
    limits = [f"{sign} {field[name]:,}" for name, sign in LIMITS.items() if name in field]
    if setting in TRUSTING:
        return f"{o.describe(setting)} (only as an option or in --config)"
    default = "not set" if field.get("default") is None else _literal(field["default"])
    return f"{o.describe(setting)} ({', '.join([*limits, f'default: {default}'])})"


def _literal(value: Any) -> str:
    """A TOML value; JSON's strings, numbers, booleans and arrays are TOML's. None is no value at all."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{json_text.dumps(key)} = {_literal(each)}" for key, each in value.items())
            + "}"
        )
    return "" if value is None else json_text.dumps(value)

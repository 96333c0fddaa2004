"""Options that several commands share, each named once, and how options become settings.

An option stands for the setting of its own name in the section of its command (`rpo generate --steps` is
`generate.steps`); SHARED lists the few that live elsewhere. None means not given. Limits are checked by
the settings, so that all mistakes are told at once.
"""

import datetime
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from rpo_cli.cli.effects import EFFECTS
from rpo_cli.config import Settings
from rpo_cli.errors import UsageError

# option → setting, where the command's own section has none of that name
SHARED = {
    "prompts": "prompts.file",
    "column": "prompts.column",
    "encoding": "prompts.encoding",
    "delimiter": "prompts.delimiter",
    "quoting": "prompts.quoting",
    "limit": "prompts.limit",
    "seed": "run.seed",
    "device": "run.device",
    "workers": "run.workers",
    "reward": "score.rewards",
    "reward_backend": "score.backend",
    "log": "train.loggers",
    "accept_license": "run.accept_license",
    "mix": "run.mix",
    "generator": "generate.generator",
    "critic": "critique.critic",
    "editor": "edit.editor",
    "model": "train.model",
    "critic_url": "critique.critic_url",
    "key_variable": "critique.key_variable",
    "server_python": "critique.server_python",
}


@cache
def fields() -> dict[str, dict[str, Any]]:
    """Every setting by its dotted name, as JSON schema: type, description, default, limits, choices."""
    schema = Settings.model_json_schema()
    found: dict[str, dict[str, Any]] = {}
    for section, place in schema["properties"].items():
        properties = schema["$defs"][place["$ref"].rpartition("/")[2]]["properties"]
        for key, field in properties.items():
            forms = [form for form in field.get("anyOf", ()) if form["type"] != "null"]
            found[f"{section}.{key}"] = {**(forms[0] if forms else {}), **field}
    return found


def describe(setting: str) -> str:
    """What the settings say about one of them: its description, what a value does, and its choices."""
    field = fields()[setting]
    text = field.get("description") or f"{setting} in rpo.toml."
    text = f"{text} {EFFECTS[setting]}" if setting in EFFECTS else text
    return f"{text} One of {', '.join(field['enum'])}." if "enum" in field else text


def setting(name: str) -> Any:
    """A typer option whose help is the setting's own description."""
    return typer.Option(help=describe(name), show_default=False)


def setting_of(section: str, option: str) -> str | None:
    """The setting that an option of a command stands for; None: a switch of the command itself."""
    own = f"{section}.{option}"
    return own if own in fields() else SHARED.get(option)


def given(section: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted setting → value of every option that was given; `--set` wins over a named option."""
    told = {
        name: value
        for option, value in params.items()
        if value not in (None, [], ()) and (name := setting_of(section, option)) is not None
    }
    for text in params.get("assign") or ():
        name, value = _assignment(text)
        table, _, key = name.rpartition(".")
        if is_table(table):  # one entry of it
            before = told.get(table)
            name, value = table, {**(before if isinstance(before, dict) else {}), key: value}
        told[name] = value
    return told


def is_table(name: str) -> bool:
    """Whether a setting holds names and values of its own."""
    return fields().get(name, {}).get("type") == "object"


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or "." not in name:
        raise UsageError(f"--set {text}: not SECTION.KEY=VALUE", "for example --set generate.steps=20")
    name, value = name.strip(), value.strip()
    return name, _table_value(value) if is_table(name) else _toml_value(value)


def _table_value(text: str) -> Any:
    """An inline table of TOML, or an object of JSON; text that is neither stands for itself."""
    found: Any = _toml_table(text)
    if found is None:
        try:
            found = json.loads(text)
        except ValueError:
            return text
    return found if isinstance(found, dict) else text


def _toml_table(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return None


def _toml_value(text: str) -> Any:
    """A TOML value; text that is none (shells eat the quotes) stands for itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    value = parsed["value"]
    plain = len(parsed) == 1 and not isinstance(value, (datetime.date, datetime.time, dict))
    return value if plain else text


def shard_of(text: str | None) -> tuple[int, int] | None:
    """ "I/N" as numbers."""
    if text is None:
        return None
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(
            f"--shard {text}: not I/N with 0 <= I < N", "for example --shard 0/4 to --shard 3/4"
        )
    return int(index), int(count)


RunDir = Annotated[str, typer.Argument(metavar="RUN", help="Run directory; made when there is none.")]
ExistingRun = Annotated[str, typer.Argument(metavar="RUN", help="Run directory.")]
Preset = Annotated[
    str | None,
    typer.Option(help="Settings to start from: `rpo list presets NAME` tells each.", show_default=False),
]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE", help="TOML file of settings.", show_default=False)
]
Assign = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="SECTION.KEY=VALUE", help="Any setting, as TOML; repeatable.", show_default=False
    ),
]
Unset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SECTION.KEY",
        help="Take back what earlier commands were told; a section or all, too; repeatable.",
        show_default=False,
    ),
]
Mix = Annotated[bool | None, typer.Option("--mix", help=describe("run.mix"), show_default=False)]
Prompts = Annotated[str | None, typer.Option(help=describe("prompts.file"), show_default=False)]
Column = Annotated[str | None, setting("prompts.column")]
Encoding = Annotated[str | None, setting("prompts.encoding")]
Delimiter = Annotated[str | None, setting("prompts.delimiter")]
Quoting = Annotated[str | None, setting("prompts.quoting")]
Limit = Annotated[int | None, setting("prompts.limit")]
Seed = Annotated[int | None, setting("run.seed")]
Device = Annotated[str | None, setting("run.device")]
Workers = Annotated[int | None, setting("run.workers")]
CriticUrl = Annotated[list[str] | None, setting("critique.critic_url")]
ServerPython = Annotated[str | None, setting("critique.server_python")]
KeyVariable = Annotated[str | None, setting("critique.key_variable")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; make no row.")]
ProbeRows = Annotated[
    int | None,
    typer.Option(
        "--probe", metavar="K", min=1, help="Make K rows, time them, extrapolate.", show_default=False
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Only share I of N of the rows, 0 <= I < N.", show_default=False),
]
RetryRejects = Annotated[bool, typer.Option("--retry-rejects", help="Try rejected rows again.")]
AllowMissing = Annotated[
    bool,
    typer.Option("--allow-missing", help="Go on where a reward gives no scores; the pairs tell how many."),
]
AcceptLicense = Annotated[
    bool | None,
    typer.Option("--accept-license", help=describe("run.accept_license"), show_default=False),
]
Rehash = Annotated[
    bool, typer.Option("--rehash", help="Read every file of a local model again; trust no remembered hash.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no hints, no tables.")]

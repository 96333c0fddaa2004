"""Options that several commands share, each named once, and how options become settings."""

import datetime
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from rpo_cli.cli.output import Json as Json
from rpo_cli.cli.output import Quiet as Quiet
from rpo_cli.config import Settings
from rpo_cli.errors import UsageError

EFFECTS = {
    "run.seed": "Another one makes other pictures of the same prompts.",
    "run.engine": "local: this machine; ray: a cluster (`rpo list engines`).",
    "generate.generator": "It draws the pictures, and is what training tunes.",
    "generate.images_per_prompt": "More give more pairs to compare, and cost as much more.",
    "generate.steps": "More are finer and take longer.",
    "generate.guidance": "Larger keeps nearer the prompt, with less variety.",
    "generate.batch_size": "More are faster, as long as they fit.",
    "critique.critic": "Or a short name of `rpo list critics`.",
    "critique.backend": "transformers: in this process; else a server (`rpo list critics`).",
    "critique.template": "general: flaws and instructions; aspects: scores too; words: those that fail.",
    "critique.max_requests": "What is left is made by the next call.",
    "critique.max_tokens_total": "What is left is made by the next call.",
    "critique.single_turn": "Half the calls of asking twice.",
    "critique.max_instructions": "More make more edits, or longer ones.",
    "critique.attempts": "More leave fewer rejects.",
    "critique.in_flight": "More are faster until the server is full.",
    "critique.batch_size": "More are faster, as long as they fit.",
    "edit.guidance": "Larger follows the instruction more.",
    "edit.image_guidance": "Larger keeps more of the picture.",
    "edit.edits_per_image": "More to choose from; pairs.select_by chooses.",
    "edit.floor_pictures": "0: pairs.min_change alone counts.",
    "edit.steps": "More are finer and take longer.",
    "edit.strength": "Less keeps more of the picture.",
    "edit.batch_size": "More are faster, as long as they fit.",
    "score.rewards": "More of them must agree, so fewer pairs pass.",
    "pairs.min_margin": "Larger keeps fewer pairs with surer labels.",
    "pairs.min_agreement": "1: all of them; less keeps more pairs.",
    "pairs.min_change": "Larger drops edits that did little.",
    "pairs.max_change": "Smaller drops edits that changed more than was asked.",
    "pairs.min_hash_distance": "Larger drops pairs that look alike.",
    "pairs.val_fraction": "0: no figures on pairs that were not learned.",
    "train.method": "dpo compares pairs, sft copies winners, kto judges each picture.",
    "train.beta": "Larger stays nearer the reference.",
    "train.link": "logistic pushes on, ipo seeks a margin, slic stops at one.",
    "train.pair_weight": "none: all teach alike.",
    "train.soft_labels": "share: of the votes that a pair came with.",
    "train.label_smoothing": "Larger makes each pair teach less.",
    "train.sft_weight": "Larger keeps winners likely, and is nearer to sft.",
    "train.group_size": "Larger compares with more, and needs as many in a batch.",
    "train.list_size": "Larger needs prompts with so many pictures.",
    "train.clip": "Smaller stops a side's teaching sooner.",
    "train.ratio_base": "old lets the policy go on moving after each move.",
    "train.reference_every": "Less lets the policy drift farther.",
    "train.reference_draws": "Fewer save more passes of the reference, and repeat sooner.",
    "train.full": "Far more memory, and a whole model as result.",
    "train.rank": "Larger can learn more, and takes more memory.",
    "train.learning_rate": "Larger learns faster, until it diverges.",
    "train.steps": "More learn longer and drift farther from the base.",
    "train.rounds": "More follow the policy, and draw as many more pictures.",
    "train.global_batch": "More make a steadier, slower step.",
    "train.batch_size": "More are faster, as long as they fit; the loss is the same.",
    "train.processes": "They share the pairs of each step.",
    "train.desirable_weight": "Larger seeks winners more.",
    "train.undesirable_weight": "Larger avoids losers more.",
    "train.temperature": "Smaller compares the likest pictures alone.",
    "train.dro_temperature": "Smaller looks at hard pairs more.",
    "train.margin": "Larger goes on pushing for longer.",
    "train.seed": "Another one draws pairs and noise in another order.",
}


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
def known() -> dict[str, FieldInfo]:
    """Every setting by its dotted name."""
    sections: dict[str, Any] = {name: place.annotation for name, place in Settings.model_fields.items()}
    return {
        f"{section}.{key}": field
        for section, kind in sections.items()
        for key, field in kind.model_fields.items()
    }


@cache
def fields() -> dict[str, dict[str, Any]]:
    """The same as JSON schema: type, description, default, limits, choices."""
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
    field = known()[setting]
    text = field.description or f"{setting} in rpo.toml."
    text = f"{text} {EFFECTS[setting]}" if setting in EFFECTS else text
    forms = (field.annotation, *get_args(field.annotation))
    choices = next((get_args(form) for form in forms if get_origin(form) is Literal), ())
    return f"{text} One of {', '.join(choices)}." if choices else text


def setting(name: str) -> Any:
    """A typer option whose help is the setting's own description."""
    return typer.Option(help=describe(name), show_default=False)


def setting_of(section: str, option: str) -> str | None:
    """The setting that an option of a command stands for; None: a switch of the command itself."""
    own = f"{section}.{option}"
    return own if own in known() else SHARED.get(option)


def settings_of_options(section: str, params: Mapping[str, Any]) -> dict[str, Any]:
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
    field = known().get(name)
    forms = () if field is None else (field.annotation, *get_args(field.annotation))
    return any(get_origin(form) is dict for form in forms)


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
Until = Annotated[
    str | None,
    typer.Option(
        metavar="<generate|critique|edit|build-pairs|train>", help="The last step.", show_default=False
    ),
]
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

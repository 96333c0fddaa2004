"""Options become settings."""

import inspect
import re
import typing

import pytest
import typer
from typer.models import OptionInfo

from rpo_cli.cli import help, options
from rpo_cli.cli.app import COMMANDS, command_of
from rpo_cli.cli.options import EFFECTS
from rpo_cli.errors import UsageError
from rpo_cli.settings_checks import setting_names

# command → the section of its own settings
SECTIONS = {
    "run": "run",
    "generate": "generate",
    "critique": "critique",
    "edit": "edit",
    "build-pairs": "pairs",
    "train": "train",
}
SWITCHES = {
    *(
        "preset",
        "config",
        "assign",
        "shard",
        "retry_rejects",
        "allow_missing",
        "dry_run",
        "rehash",
        "probe",
        "json",
        "quiet",
    ),
    *("context", "run", "until", "suggest_beta", "plan", "prepare", "unset"),
}


def option_table():
    for command, section in SECTIONS.items():
        function = COMMANDS[command].function()
        hints = typing.get_type_hints(function, include_extras=True)
        for name in inspect.signature(function).parameters:
            if name not in SWITCHES:
                infos = [part for part in hints[name].__metadata__ if isinstance(part, OptionInfo)]
                yield pytest.param(section, name, infos[0], id=f"{command} {name}")


@pytest.mark.parametrize(("section", "name", "info"), list(option_table()))
def test_every_option_is_a_setting_and_says_what_the_setting_says(section, name, info):
    """No option is lost on its way to the settings, and its help is the setting's own description."""
    setting = options.setting_of(section, name)

    assert setting in setting_names()
    assert info.help == options.describe(setting)


def test_what_a_value_does_is_said_of_settings_that_there_are_and_in_few_words():
    assert sorted(EFFECTS.keys() - options.fields().keys()) == []
    assert [text for text in EFFECTS.values() if len(text) > 90 or not text.endswith(".")] == []


@pytest.mark.parametrize("command", ["generate", "critique", "edit", "build-pairs", "train"])
def test_no_help_in_sight_only_points_elsewhere(command):
    """A reader of help learns there what a larger value or another choice does."""
    found = command_of(command)
    context = typer.Context(found, help_option_names=help.NAMES)
    shown = help.in_sight(command, help.rows(found, context))

    assert [row.name for row in shown if re.fullmatch(r"See `[^`]*`\.?", row.text)] == []


def test_every_setting_has_a_description():
    """It is the help of the option and the line in rpo.toml."""
    missing = [name for name, field in options.fields().items() if not field.get("description")]

    assert missing == []


def test_options_that_were_not_given_set_nothing():
    assert (
        options.settings_of_options("edit", {"steps": None, "guidance": (), "run": "demo", "assign": None})
        == {}
    )


def test_zero_and_false_are_values():
    assert options.settings_of_options("generate", {"guidance": 0.0}) == {"generate.guidance": 0.0}
    assert options.settings_of_options("train", {"full": False}) == {"train.full": False}


def test_an_option_names_the_setting_of_its_own_section_first():
    """--seed is the run's for generate and the training's own for train."""
    assert options.settings_of_options("generate", {"seed": 3, "steps": 9}) == {
        "run.seed": 3,
        "generate.steps": 9,
    }
    assert options.settings_of_options("train", {"seed": 3, "steps": 9}) == {
        "train.seed": 3,
        "train.steps": 9,
    }


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("generate.steps=20", "generate.steps", 20),
        ("edit.guidance=[3.0, 7.5]", "edit.guidance", [3.0, 7.5]),
        ("train.full=true", "train.full", True),
        ('generate.scheduler="DDIMScheduler"', "generate.scheduler", "DDIMScheduler"),
        ("generate.scheduler=DDIMScheduler", "generate.scheduler", "DDIMScheduler"),
        ("generate.generator=org/name", "generate.generator", "org/name"),
        ("generate.negative_prompt=a = b", "generate.negative_prompt", "a = b"),
        ("train.name=2026-11-21", "train.name", "2026-11-21"),
        ("train.name=1\nrun.seed = 2", "train.name", "1\nrun.seed = 2"),
    ],
)
def test_set_takes_toml_and_bare_words(text, name, value):
    """Shells eat quotes, so what is no TOML stands for itself; a second line is no second setting."""
    assert options.settings_of_options("run", {"assign": [text]}) == {name: value}


@pytest.mark.parametrize("text", ["steps=20", "generate.steps", "=3"])
def test_set_without_section_or_value_is_refused(text):
    with pytest.raises(UsageError, match=r"SECTION\.KEY=VALUE"):
        options.settings_of_options("run", {"assign": [text]})


def test_set_wins_over_the_named_option():
    assert options.settings_of_options("generate", {"steps": 5, "assign": ["generate.steps=6"]}) == {
        "generate.steps": 6
    }

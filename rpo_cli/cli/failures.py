"""What a failure looks like: two parts on stderr and an exit code, for every exception there is."""

import errno
import os
import sys
import traceback
from importlib.metadata import PackageNotFoundError, metadata

import typer

from rpo_cli import installing
from rpo_cli.cli import output
from rpo_cli.errors import RpoError, Terminated

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

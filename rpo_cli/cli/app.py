"""Assembles `rpo`: the commands, the global options, and the one place where every failure is told."""

import errno
import logging
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, metadata
from types import FrameType
from typing import Annotated, Any, NamedTuple, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from rpo_cli import installing, registry
from rpo_cli.cli import output
from rpo_cli.cli.help import ALL, ARGUMENTS, NAMES, Command
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


class Entry(NamedTuple):
    """A command of the table: where its function stands, and its line in the list of commands.

    Attributes:
        place: "module:function"; the module is imported when the command is wanted.
        help: the first paragraph of the function's docstring.
    """

    place: str
    help: str

    def function(self) -> Callable[..., None]:
        module, _, name = self.place.partition(":")
        found: Callable[..., None] = getattr(import_module(module), name)
        return found


COMMANDS = {
    "run": Entry(
        "rpo_cli.cli.run:run",
        "Walk the line: generate, critique, edit, build-pairs, train; only what is missing is done.",
    ),
    "init": Entry(
        "rpo_cli.cli.init:init",
        "Write DIR/rpo.toml with every setting explained, and DIR/templates/ to edit; overwrites nothing.",
    ),
    "plan": Entry(
        "rpo_cli.cli.plan:plan",
        "Tell what each step has and will take: rows, models, memory, disk, time, network. Asks nobody.",
    ),
    "generate": Entry("rpo_cli.cli.generate:generate", "Make the pictures of RUN that are missing."),
    "import": Entry(
        "rpo_cli.cli.import_data:import_data",
        "Take pictures, pairs, human labels and human critiques into RUN; again: what has changed.",
    ),
    "critique": Entry(
        "rpo_cli.cli.critique:critique",
        "Ask the critic about every picture of RUN that has no critique yet.",
    ),
    "edit": Entry(
        "rpo_cli.cli.edit:edit",
        "Carry out the critic's instructions on every picture of RUN that has none of these edits yet.",
    ),
    "build-pairs": Entry(
        "rpo_cli.cli.build_pairs:build_pairs",
        "Score the pictures of RUN, judge every candidate pair and write RUN/dataset.",
    ),
    "train": Entry(
        "rpo_cli.cli.train:train",
        "Tune the generator of RUN on the pairs of RUN/dataset; every part of the method is a setting.",
    ),
    "eval": Entry(
        "rpo_cli.cli.eval:evaluate",
        "Compare trained models with their base on equal prompts and start noise, several seeds each.",
    ),
    "sweep": Entry(
        "rpo_cli.cli.sweep:sweep",
        "Train methods x betas x learning rates x seeds, evaluate all, and tell which differ.",
    ),
    "try": Entry(
        "rpo_cli.cli.try_models:try_models",
        "Draw prompts with trained models beside their base, from the same start noise, "
        "in one picture file.",
    ),
    "status": Entry(
        "rpo_cli.cli.status:status",
        "Say what is done in RUN, what is missing, and what was rejected and why.",
    ),
    "settings": Entry(
        "rpo_cli.cli.settings:settings",
        "Print what the next command on RUN would work with, and where each value is from.",
    ),
    "pairs": Entry(
        "rpo_cli.cli.pairs:pairs",
        "Find RUN's pairs, those that were dropped too, by prompt, flaw, kind, margin or gate.",
    ),
    "show": Entry(
        "rpo_cli.cli.show:show",
        "Tell a row's story: prompt, image, critique, edits, scores, pairs, and why it ended there.",
    ),
    "report": Entry(
        "rpo_cli.cli.report:report",
        "Write RUN as static pages: funnel, pairs side by side, rewards, training curves, provenance.",
    ),
    "review": Entry(
        "rpo_cli.cli.review:review",
        "Judge the pairs of RUN in a browser, blind; each verdict is on disk before the next pair shows.",
    ),
    "export": Entry(
        "rpo_cli.cli.export:export",
        "Write RUN's dataset as pickapic, imagefolder, webdataset, kto, simpletuner, trl or jsonl.",
    ),
    "push": Entry(
        "rpo_cli.cli.push:push",
        "Upload RUN's dataset to the Hugging Face hub in one commit, private unless --public.",
    ),
    "merge": Entry(
        "rpo_cli.cli.merge:merge",
        "Copy into RUN the parts of OTHER runs that RUN lacks; a row that both have counts once.",
    ),
    "upgrade": Entry(
        "rpo_cli.cli.upgrade:upgrade",
        "Bring RUN, made by an earlier rpo, to the format of this one; say which rows are made again.",
    ),
    "convert": Entry(
        "rpo_cli.cli.convert:convert",
        "Make safetensors of pickled weights (.bin, .pt, .pth, .ckpt) without running what is in them.",
    ),
    "list": Entry(
        "rpo_cli.cli.list:list_names",
        "List generators, critics, editors, rewards, engines, objectives, presets, templates and so on.",
    ),
    "doctor": Entry(
        "rpo_cli.cli.doctor:doctor",
        "Show Python, packages, extras, devices, embedded models and disk; "
        "exit 3 when a package is missing.",
    ),
}


def commands() -> dict[str, Entry]:
    """Every command by its name, in the order of the list; those of plugins' stages last."""
    stages = {
        name: Entry(
            "rpo_cli.cli.plugin_stage:plugin_stage", f"Make what RUN lacks of {name}, a plugin's stage."
        )
        for name in registry.names("stages")
    }
    return COMMANDS | {name: entry for name, entry in stages.items() if name not in COMMANDS}


def command_of(name: str) -> Any:
    """typer's command of that name, its module imported."""
    entry = commands()[name]
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    # said as it is: what click shortens ends in "..."
    alone.command(name, cls=Command, short_help=entry.help)(entry.function())
    return typer.main.get_command(alone)


class Commands(TyperGroup):
    """Commands of which name and help are known; the module of one loads when it is called or completed."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, entry in commands().items():
            self.add_command(TyperCommand(name, callback=None, params=[], short_help=entry.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The name, the whole command and the words behind it."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, None if found is None else command_of(str(name)), rest


# plain help: at 80 columns the boxes cut the names of options off
app = typer.Typer(
    cls=Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    epilog="Tutorial, recipes, methods, troubleshooting: rpo doctor says where these pages lie.",
    context_settings={"max_content_width": 100, "help_option_names": NAMES},
)


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
    json: output.Json = False,
    quiet: output.Quiet = False,
) -> None:
    """Rich preference datasets for text-to-image models: generate, critique, edit, pair, train."""


def main() -> NoReturn:
    """The `rpo` command."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, _terminate)
    # its own pool keeps what a scan has taken: 200 MB of a million rows
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    if not debugging():
        _hush_libraries()
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a failure is told, never raised."""
    word = next((word for word in arguments if not word.startswith("-")), "")
    command = word if word in commands() else ""
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

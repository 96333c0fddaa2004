"""What the commands of the line have in common: open the run, plan, probe or do, say what to type next."""

import shlex
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import typer

from rpo_cli.cli import reports
from rpo_cli.cli.help import ARGUMENTS
from rpo_cli.cli.options import settings_of_options, shard_of
from rpo_cli.cli.output import Output

if TYPE_CHECKING:
    from rpo_cli.line.session import Line

WITH_VALUE = ("--probe",)


def after(context: typer.Context, say: Output, line: "Line", command: str) -> None:
    """The next step of the line; none after a share of the rows, which waits for the others."""
    from rpo_cli.line.status import following

    if not context.params.get("shard"):
        tell(say, f"{following(line, command)}{_config(context)}")


def status(say: Output, run: str) -> None:
    """Of a command that may stand anywhere in the line: status knows."""
    tell(say, f"rpo status {shlex.quote(run)}")


def again(context: typer.Context, say: Output, without: Sequence[str], *extra: str) -> None:
    """The same words without those that asked to look ahead."""
    words = (context.find_root().obj or {}).get(ARGUMENTS)
    if words is None:
        return
    kept: list[str] = []
    skip = False
    for word in words:
        name, equals, _ = word.partition("=")
        if not skip and name not in without:
            kept.append(word)
        skip = not skip and name in without and name in WITH_VALUE and not equals
    tell(say, shlex.join(["rpo", *kept, *extra]))


def tell(say: Output, command: str) -> None:
    say.hint(f"next: {command}")


def _config(context: typer.Context) -> str:
    """A file of settings counts for the command that names it alone."""
    config = context.params.get("config")
    return "" if config is None else f" --config {shlex.quote(str(config))}"


def console(context: typer.Context) -> Output:
    """The output mode; --json and --quiet count before the command and after it."""
    flags: list[dict[str, Any]] = [context.find_root().params, context.params]
    notes: list[str] = context.find_root().meta.setdefault("rpo.notes", [])
    if any(flag.get("json") for flag in flags):
        return Output("json", notes)
    return Output("quiet" if any(flag.get("quiet") for flag in flags) else "human", notes)


def opened(context: typer.Context, section: str, *, create: bool = True) -> "Line":
    """The run of a command, with its options as settings of `section`."""
    from rpo_cli.line.session import open_line
    from rpo_cli.resolve import SECTIONS
    from rpo_cli.scopes import TRAINING

    params = context.params
    return open_line(
        params["run"],
        settings_of_options(section, params),
        preset=params.get("preset"),
        config_file=params.get("config"),
        observer=console(context).observer(),
        rehash=bool(params.get("rehash")),
        create=create,
        unset=params.get("unset") or (),
        uses=_uses(section, SECTIONS) if _trains(params) else [s for s in SECTIONS if s not in TRAINING],
        command=f"rpo {context.command.name or context.info_name}",
    )


def _uses(section: str, every: Collection[str]) -> Collection[str]:
    """The sections whose settings a command works with, by the section of its options."""
    from rpo_cli.line.steps import sections, stages

    if section == "import":
        return ("run", "prompts")
    if section == "pairs":
        return (*sections("score"), "pairs")
    return sections(section) if section in {spec.name for spec in stages()} else every


def _trains(params: dict[str, Any]) -> bool:
    """False for `rpo run --until` a step before the training."""
    return params.get("until") in (None, "train")


def stage(context: typer.Context, name: str) -> None:
    """A stage of the line: --dry-run plans, --probe times a few rows, else make what is missing."""
    from rpo_cli.line.preflight import preflight
    from rpo_cli.line.run import plan, probe
    from rpo_cli.line.stage import run_stage

    params, say = context.params, console(context)
    shard, retry = shard_of(params["shard"]), params["retry_rejects"]
    line = opened(context, name, create=name == "generate")
    preflight(line, [name], alone=True)
    if params["dry_run"]:
        reports.plans(say, plan(line, [name], shard=shard, retry_rejects=retry))
        again(context, say, ["--dry-run"])
    elif params["probe"]:
        reports.probed(say, probe(line, name, params["probe"]))
        again(context, say, ["--probe"])
    else:
        reports.stage(say, run_stage(line, name, shard=shard, retry_rejects=retry), params["run"])
        after(context, say, line, name)

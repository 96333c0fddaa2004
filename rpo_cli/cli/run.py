"""`rpo run`: the whole line."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step


def run(
    context: typer.Context,
    run: o.RunDir,
    prompts: o.Prompts = None,
    column: o.Column = None,
    encoding: o.Encoding = None,
    delimiter: o.Delimiter = None,
    quoting: o.Quoting = None,
    generator: Annotated[str | None, o.setting("generate.generator")] = None,
    critic: Annotated[str | None, o.setting("critique.critic")] = None,
    editor: Annotated[str | None, o.setting("edit.editor")] = None,
    reward: Annotated[list[str] | None, o.setting("score.rewards")] = None,
    model: Annotated[str | None, o.setting("train.model")] = None,
    until: o.Until = None,
    engine: Annotated[str | None, o.setting("run.engine")] = None,
    critic_url: o.CriticUrl = None,
    key_variable: o.KeyVariable = None,
    server_python: o.ServerPython = None,
    device: o.Device = None,
    workers: o.Workers = None,
    limit: o.Limit = None,
    seed: o.Seed = None,
    preset: o.Preset = None,
    config: o.Config = None,
    accept_license: o.AcceptLicense = None,
    assign: o.Assign = None,
    unset: o.Unset = None,
    mix: o.Mix = None,
    shard: o.Shard = None,
    allow_missing: o.AllowMissing = False,
    dry_run: o.DryRun = False,
    rehash: o.Rehash = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Walk the line: generate, critique, edit, build-pairs, train; only what is missing is done.

    Example: rpo run demo --preset shapes --prompts prompts/shapes.txt --limit 24
    """
    from rpo_cli.line.preflight import preflight
    from rpo_cli.line.run import forecast, steps_of
    from rpo_cli.line.run import run as walk

    say, part = step.console(context), o.shard_of(shard)
    line = step.opened(context, "run")
    if dry_run:
        steps = steps_of(line, until)
        preflight(line, steps)
        reports.plans(say, forecast(line, steps))
        step.again(context, say, ["--dry-run"])
    else:
        made = walk(line, until, shard=part, allow_missing=allow_missing)
        reports.whole(say, made, context.params["run"])
        step.after(context, say, line, until or "train")

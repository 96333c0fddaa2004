"""`rpo critique`: pictures to critiques and instructions."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step


def critique(
    context: typer.Context,
    run: o.ExistingRun,
    critic: Annotated[str | None, o.setting("critique.critic")] = None,
    backend: Annotated[str | None, o.setting("critique.backend")] = None,
    critic_url: o.CriticUrl = None,
    key_variable: o.KeyVariable = None,
    server_python: o.ServerPython = None,
    in_flight: Annotated[int | None, o.setting("critique.in_flight")] = None,
    template: Annotated[str | None, o.setting("critique.template")] = None,
    single_turn: Annotated[bool | None, o.setting("critique.single_turn")] = None,
    max_instructions: Annotated[int | None, o.setting("critique.max_instructions")] = None,
    attempts: Annotated[int | None, o.setting("critique.attempts")] = None,
    batch_size: Annotated[int | None, o.setting("critique.batch_size")] = None,
    dtype: Annotated[str | None, o.setting("critique.dtype")] = None,
    accept_license: o.AcceptLicense = None,
    device: o.Device = None,
    workers: o.Workers = None,
    seed: o.Seed = None,
    preset: o.Preset = None,
    config: o.Config = None,
    assign: o.Assign = None,
    unset: o.Unset = None,
    mix: o.Mix = None,
    shard: o.Shard = None,
    retry_rejects: o.RetryRejects = False,
    dry_run: o.DryRun = False,
    rehash: o.Rehash = False,
    probe: o.ProbeRows = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Ask the critic about every picture of RUN that has no critique yet.

    Example: rpo critique demo --template rpo --single-turn
    """
    step.stage(context, "critique")

"""The command of a stage that a plugin brings: `rpo NAME RUN`, with the options that all stages share."""

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step


def plugin_stage(
    context: typer.Context,
    run: o.ExistingRun,
    device: o.Device = None,
    workers: o.Workers = None,
    seed: o.Seed = None,
    preset: o.Preset = None,
    config: o.Config = None,
    accept_license: o.AcceptLicense = None,
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
    """Make the rows of a plugin's stage that RUN lacks."""
    step.stage(context, str(context.info_name))

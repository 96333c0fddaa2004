"""`rpo edit`: instructions to edited pictures."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step


def edit(
    context: typer.Context,
    run: o.ExistingRun,
    editor: Annotated[str | None, o.setting("edit.editor")] = None,
    backend: Annotated[str | None, o.setting("edit.backend")] = None,
    editor_url: Annotated[list[str] | None, o.setting("edit.editor_url")] = None,
    key_variable: Annotated[str | None, o.setting("edit.key_variable")] = None,
    mode: Annotated[str | None, o.setting("edit.mode")] = None,
    edits_per_image: Annotated[int | None, o.setting("edit.edits_per_image")] = None,
    counter_edits: Annotated[int | None, o.setting("edit.counter_edits")] = None,
    steps: Annotated[int | None, o.setting("edit.steps")] = None,
    guidance: Annotated[list[float] | None, o.setting("edit.guidance")] = None,
    image_guidance: Annotated[list[float] | None, o.setting("edit.image_guidance")] = None,
    controlnet: Annotated[str | None, o.setting("edit.controlnet")] = None,
    strength: Annotated[float | None, o.setting("edit.strength")] = None,
    area: Annotated[int | None, o.setting("edit.area")] = None,
    scheduler: Annotated[str | None, o.setting("edit.scheduler")] = None,
    batch_size: Annotated[int | None, o.setting("edit.batch_size")] = None,
    dtype: Annotated[str | None, o.setting("edit.dtype")] = None,
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
    """Carry out the critic's instructions on every picture of RUN that has none of these edits yet.

    Example: rpo edit demo --mode each --guidance 3 --guidance 6
    """
    step.stage(context, "edit")

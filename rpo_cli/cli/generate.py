"""`rpo generate`: prompts to pictures."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step


def generate(
    context: typer.Context,
    run: o.RunDir,
    prompts: o.Prompts = None,
    column: o.Column = None,
    encoding: o.Encoding = None,
    delimiter: o.Delimiter = None,
    quoting: o.Quoting = None,
    generator: Annotated[str | None, o.setting("generate.generator")] = None,
    backend: Annotated[str | None, o.setting("generate.backend")] = None,
    images_per_prompt: Annotated[int | None, o.setting("generate.images_per_prompt")] = None,
    steps: Annotated[int | None, o.setting("generate.steps")] = None,
    guidance: Annotated[float | None, o.setting("generate.guidance")] = None,
    negative_prompt: Annotated[str | None, o.setting("generate.negative_prompt")] = None,
    width: Annotated[int | None, o.setting("generate.width")] = None,
    height: Annotated[int | None, o.setting("generate.height")] = None,
    scheduler: Annotated[str | None, o.setting("generate.scheduler")] = None,
    lora: Annotated[str | None, o.setting("generate.lora")] = None,
    batch_size: Annotated[int | None, o.setting("generate.batch_size")] = None,
    dtype: Annotated[str | None, o.setting("generate.dtype")] = None,
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
    retry_rejects: o.RetryRejects = False,
    dry_run: o.DryRun = False,
    rehash: o.Rehash = False,
    probe: o.ProbeRows = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Make the pictures of RUN that are missing.

    Example: rpo generate demo --prompts prompts.txt --images-per-prompt 4
    """
    step.stage(context, "generate")

"""`rpo build-pairs`: scores, verdicts, gates and the dataset."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step


def build_pairs(
    context: typer.Context,
    run: o.ExistingRun,
    reward: Annotated[list[str] | None, o.setting("score.rewards")] = None,
    reward_backend: Annotated[str | None, o.setting("score.backend")] = None,
    critic_url: o.CriticUrl = None,
    key_variable: o.KeyVariable = None,
    server_python: o.ServerPython = None,
    strategy: Annotated[str | None, o.setting("pairs.strategy")] = None,
    edits: Annotated[str | None, o.setting("pairs.edits")] = None,
    labels: Annotated[str | None, o.setting("pairs.labels")] = None,
    min_margin: Annotated[float | None, o.setting("pairs.min_margin")] = None,
    min_agreement: Annotated[float | None, o.setting("pairs.min_agreement")] = None,
    min_change: Annotated[float | None, o.setting("pairs.min_change")] = None,
    max_change: Annotated[float | None, o.setting("pairs.max_change")] = None,
    min_hash_distance: Annotated[int | None, o.setting("pairs.min_hash_distance")] = None,
    select_by: Annotated[str | None, o.setting("pairs.select_by")] = None,
    keep_reversed: Annotated[bool | None, o.setting("pairs.keep_reversed")] = None,
    max_pairs_per_prompt: Annotated[int | None, o.setting("pairs.max_pairs_per_prompt")] = None,
    val_fraction: Annotated[float | None, o.setting("pairs.val_fraction")] = None,
    use_verdicts: Annotated[str | None, o.setting("pairs.use_verdicts")] = None,
    accept_license: o.AcceptLicense = None,
    device: o.Device = None,
    workers: o.Workers = None,
    seed: o.Seed = None,
    preset: o.Preset = None,
    config: o.Config = None,
    assign: o.Assign = None,
    unset: o.Unset = None,
    mix: o.Mix = None,
    retry_rejects: o.RetryRejects = False,
    allow_missing: o.AllowMissing = False,
    dry_run: o.DryRun = False,
    rehash: o.Rehash = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Score the pictures of RUN, judge every candidate pair and write RUN/dataset.

    Example: rpo build-pairs demo --strategy all --min-margin 0.3
    """
    from rpo_cli.line.dataset.inputs import build_pairs as build
    from rpo_cli.line.preflight import preflight
    from rpo_cli.line.run import plan
    from rpo_cli.line.stage import run_stage

    say = step.console(context)
    line = step.opened(context, "pairs", create=False)
    preflight(line, ["build-pairs"], alone=True)
    if dry_run:
        reports.plans(say, plan(line, ["score"], retry_rejects=retry_rejects))
        step.again(context, say, ["--dry-run"])
    else:
        scores = run_stage(line, "score", retry_rejects=retry_rejects, allow_missing=allow_missing)
        reports.pairs(say, scores, build(line, allow_missing=allow_missing), run)
        step.after(context, say, line, "build-pairs")

"""`rpo train`: pairs to an adapter or a UNet."""

from typing import TYPE_CHECKING, Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import Output
from rpo_cli.compute import launched

if TYPE_CHECKING:
    from rpo_cli.line.session import Line

SuggestBeta = Annotated[
    bool, typer.Option("--suggest-beta", help="Propose a beta from the model's errors; train nothing.")
]
Plan = Annotated[
    bool, typer.Option("--dry-run", help="Print parameters, memory and FLOPs; load and train nothing.")
]
Prepare = Annotated[
    bool, typer.Option("--prepare", help="Encode pictures and captions into the cache; train nothing.")
]

AHEAD = ("--dry-run", "--plan", "--prepare", "--suggest-beta", "--probe")
Probe = Annotated[
    int | None,
    typer.Option(
        "--probe",
        metavar="K",
        min=1,
        help="Make K optimiser steps (of methods that sample: batches), time them, extrapolate; keep none.",
        show_default=False,
    ),
]


def train(
    context: typer.Context,
    run: o.RunDir,
    method: Annotated[str | None, o.setting("train.method")] = None,
    model: Annotated[str | None, o.setting("train.model")] = None,
    dataset: Annotated[str | None, o.setting("train.dataset")] = None,
    name: Annotated[str | None, o.setting("train.name")] = None,
    beta: Annotated[float | None, o.setting("train.beta")] = None,
    beta_from: Annotated[str | None, o.setting("train.beta_from")] = None,
    suggest_beta: SuggestBeta = False,
    prepare: Prepare = False,
    probe: Probe = None,
    link: Annotated[str | None, o.setting("train.link")] = None,
    pair_weight: Annotated[str | None, o.setting("train.pair_weight")] = None,
    soft_labels: Annotated[str | None, o.setting("train.soft_labels")] = None,
    label_smoothing: Annotated[float | None, o.setting("train.label_smoothing")] = None,
    sft_weight: Annotated[float | None, o.setting("train.sft_weight")] = None,
    group_size: Annotated[int | None, o.setting("train.group_size")] = None,
    list_size: Annotated[int | None, o.setting("train.list_size")] = None,
    clip: Annotated[float | None, o.setting("train.clip")] = None,
    ratio_base: Annotated[str | None, o.setting("train.ratio_base")] = None,
    reference_every: Annotated[int | None, o.setting("train.reference_every")] = None,
    reference_draws: Annotated[int | None, o.setting("train.reference_draws")] = None,
    embedder: Annotated[str | None, o.setting("train.embedder")] = None,
    full: Annotated[bool | None, o.setting("train.full")] = None,
    rank: Annotated[int | None, o.setting("train.rank")] = None,
    text_encoder: Annotated[bool | None, o.setting("train.text_encoder")] = None,
    learning_rate: Annotated[float | None, o.setting("train.learning_rate")] = None,
    steps: Annotated[int | None, o.setting("train.steps")] = None,
    rounds: Annotated[int | None, o.setting("train.rounds")] = None,
    global_batch: Annotated[int | None, o.setting("train.global_batch")] = None,
    batch_size: Annotated[int | None, o.setting("train.batch_size")] = None,
    processes: Annotated[int | None, o.setting("train.processes")] = None,
    dtype: Annotated[str | None, o.setting("train.dtype")] = None,
    buckets: Annotated[bool | None, o.setting("train.buckets")] = None,
    log: Annotated[list[str] | None, o.setting("train.loggers")] = None,
    export: Annotated[list[str] | None, o.setting("train.export")] = None,
    seed: Annotated[int | None, o.setting("train.seed")] = None,
    accept_license: o.AcceptLicense = None,
    dry_run: Plan = False,
    rehash: o.Rehash = False,
    device: o.Device = None,
    preset: o.Preset = None,
    config: o.Config = None,
    assign: o.Assign = None,
    unset: o.Unset = None,
    mix: o.Mix = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Tune the generator of RUN on the pairs of RUN/dataset; every part of the method is a setting.

    Example: rpo train demo --method dpo --steps 400 --name dpo-400
    """
    say, line = step.console(context), step.opened(context, "train")
    looked(line, dry_run)
    found = act(say, line, dry_run, prepare, suggest_beta, probe)
    if launched().rank:
        return
    if dry_run or prepare or suggest_beta or probe:
        step.again(context, say, AHEAD, *found)
    else:
        step.after(context, say, line, "train")


def looked(line: "Line", plan: bool) -> None:
    """What is wrong or old, before anything loads; a plan also reads configurations of weights not here."""
    from rpo_cli.line.preflight import preflight

    if not plan:
        preflight(line, ["train"])
        tell_age(line)


def tell_age(line: "Line") -> None:
    """A note where the dataset to be trained on is no longer what build-pairs would make."""
    from rpo_cli.line.status import is_current
    from rpo_cli.train.composition import composed, is_online

    settings = line.settings.train
    if launched().rank or settings.dataset is not None or is_online(settings):
        return
    if settings.rounds and composed(settings).losers == "given":
        return  # rounds make pairs of their own, unless a method takes winners of the dataset
    if is_current(line) is False:
        line.observer.note(
            "the dataset is older than the run's rows, verdicts or settings: "
            f"rpo build-pairs {line.store.url} makes it new"
        )


def act(
    say: Output, line: "Line", plan: bool, prepare: bool, suggest_beta: bool, probe: int | None
) -> tuple[str, ...]:
    """Train, or do the one thing that was asked for instead; returns words for the command after it."""
    from rpo_cli.cli import reports
    from rpo_cli.line import training
    from rpo_cli.line.online import plan_online, probe_online
    from rpo_cli.train.composition import in_rounds, is_online

    rounds = in_rounds(line.settings.train)
    if launched().rank and not rounds:  # the first process speaks, and looks ahead alone
        if not (plan or prepare or suggest_beta or probe):
            training.fine_tune(line)
    elif rounds and not (prepare or suggest_beta or probe):
        in_turns(say, line, plan)
    elif plan and is_online(line.settings.train):
        reports.online_plan(say, plan_online(line))
    elif plan:
        reports.training_plan(say, training.plan(line))
    elif probe and is_online(line.settings.train):
        reports.online_probe(say, probe_online(line, probe))
    elif probe:
        reports.train_probed(say, training.probe(line, probe))
    elif prepare:
        reports.prepared(say, training.prepare(line))
    elif suggest_beta:
        advice = training.suggest_beta(line)
        reports.beta(say, advice)
        return ("--beta", f"{advice.beta:g}", "--beta-from", "salesforce")
    else:
        reports.trained(say, training.fine_tune(line))
    return ()


def in_turns(say: Output, line: "Line", plan: bool) -> None:
    """Train in rounds, or say what they would do."""
    from rpo_cli.cli import reports
    from rpo_cli.line import training
    from rpo_cli.line.rounds.checks import plan_rounds
    from rpo_cli.line.rounds.train import train_rounds

    if plan:
        reports.planned(say, plan_rounds(line), training.plan(line))
    else:
        reports.trained_in_rounds(say, train_rounds(line))

"""`rpo plan`: what a run has, what is to come, and what it takes."""

from collections.abc import Iterator
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import duration, listing, room, size

if TYPE_CHECKING:
    from rpo_cli.line.model_facts import ModelFacts
    from rpo_cli.line.run_plan import RunPlan, StepPlan


def plan(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run directory, there or still to be made.")],
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
    critic_url: o.CriticUrl = None,
    limit: o.Limit = None,
    seed: o.Seed = None,
    preset: o.Preset = None,
    config: o.Config = None,
    assign: o.Assign = None,
    unset: o.Unset = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Tell what each step has and will take: rows, models, memory, disk, time, network. Asks nobody.

    Example: rpo plan demo --preset shapes
    """
    from rpo_cli.line.run_plan import plan_run

    say = step.console(context)
    found = plan_run(step.opened(context, "run"), until)
    left = sum(item.to_make or 0 for item in found.steps if item.stage != "train")
    say.result(found, plan_text(found), essence=str(left))


def plan_text(found: "RunPlan") -> str:
    """Steps, models, and what the network will be asked, each as a table or list."""
    header = ["step", "wanted", "present", "to make", "disk", "time", "counted from"]
    parts = [listing(header, [_step(item) for item in found.steps])]
    slow = [item.time for item in found.steps if item.time.startswith("unknown: ")]
    parts += [f"times that are unknown: {slow[0].removeprefix('unknown: ')}"] if slow else []
    parts.append("\n".join(_models(found)))
    asked = found.network or ["nothing"]
    parts.append("\n".join(["what the network will be asked:", *(f"  {text}" for text in asked)]))
    return "\n\n".join(part for part in parts if part)


def _models(found: "RunPlan") -> Iterator[str]:
    """Every model once, with all that it does; then what training takes."""
    roles: dict[str, list[str]] = {}
    for model in found.models:
        roles.setdefault(model.ref, []).append(model.role)
    for ref, mine in roles.items():
        model = next(item for item in found.models if item.ref == ref)
        yield f"{', '.join(dict.fromkeys(mine))}: {ref}"
        yield from wrap(_about(model), room(), initial_indent="    ", subsequent_indent="    ")
    if any(item.stage == "train" for item in found.steps):
        known = found.training_memory
        yield f"training takes {'memory that is not known' if known is None else size(known)}, an estimate"


def _about(model: "ModelFacts") -> str:
    if model.here is None:
        return "not on this machine"
    where = "here, " if model.here else "not here, a download of "
    memory = f"{size(model.memory)} of weights in memory"
    return f"{where}{size(model.bytes)}; {memory}; {model.license or 'licence unknown'}"


def _step(item: "StepPlan") -> list[str]:
    time = "unknown" if item.seconds is None else duration(item.seconds) if item.seconds else "-"
    disk = size(item.bytes) if item.bytes != 0 else "-"
    return [
        item.stage,
        _rows(item.wanted),
        f"{item.present:,}",
        _rows(item.to_make),
        disk,
        time,
        item.basis,
    ]


def _rows(count: int | None) -> str:
    return "unknown" if count is None else f"{count:,}"

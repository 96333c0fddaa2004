"""`rpo eval`: base against tuned models, or what a dataset's labels are worth."""

from pathlib import Path
from typing import Annotated

import typer

from rpo_cli.cli import evaluations, step
from rpo_cli.cli import options as o


def evaluate(
    context: typer.Context,
    run: o.ExistingRun,
    name: Annotated[str, typer.Option(help="Folder of the evaluation in RUN/eval.")] = "default",
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REF",
            help="A training of RUN, or a folder; LABEL=A,B,C: training seeds of one setting; repeatable.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Prompts; RUN's held-out ones unless given.", show_default=False),
    ] = None,
    column: Annotated[str | None, o.setting("prompts.column")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most N prompts.", show_default=False)] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Pictures per prompt, by start noise.")] = 4,
    seed: Annotated[
        int | None, typer.Option(min=0, help="That the start noises come from.", show_default=False)
    ] = None,
    reward: Annotated[list[str] | None, o.setting("score.rewards")] = None,
    measure: Annotated[
        str | None, typer.Option(metavar="NAME", help="See `rpo list measures`.", show_default=False)
    ] = None,
    allow_training_prompts: Annotated[
        bool, typer.Option("--allow-training-prompts", help="Measure on prompts that RUN has trained on.")
    ] = False,
    device: o.Device = None,
    assign: o.Assign = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare trained models with their base on equal prompts and start noise, several seeds each.

    Example: rpo eval demo --measure shapes-oracle
    """
    from rpo_cli.line import evaluate as line
    from rpo_cli.line.context import open_line

    say = step.console(context)
    found = line.evaluate(
        open_line(
            run,
            o.given("eval", {"device": device, "assign": assign}),
            observer=say.observer(),
            create=False,
        ),
        name=name,
        adapters=adapter or (),
        prompts=prompts,
        column=column,
        limit=limit,
        seeds=seeds,
        seed=seed,
        rewards=reward or (),
        measure=measure,
        allow_training_prompts=allow_training_prompts,
    )
    evaluations.compared(say, found)

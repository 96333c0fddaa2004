"""`rpo sweep`: several methods and seeds trained, evaluated and compared."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step, sweeps
from rpo_cli.cli.output import Output
from rpo_cli.cli.tables import Format
from rpo_cli.errors import UsageError

if TYPE_CHECKING:
    from rpo_cli.line.session import Line

Name = Annotated[str, typer.Option(help="Of the sweep: its trainings and its evaluation begin with it.")]
Methods = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="A,B,C",
        help="Losses to compare, the first with all others: `rpo list objectives`.",
        show_default=False,
    ),
]
Betas = Annotated[
    str | None,
    typer.Option(
        "--beta", metavar="X,Y", help="Each method at each; none: each at its own.", show_default=False
    ),
]
Rates = Annotated[
    str | None,
    typer.Option(
        "--learning-rate",
        metavar="X,Y",
        help="Each method at each; none: each at its own.",
        show_default=False,
    ),
]
Seeds = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Trainings of each setting: seeds train.seed, or 0, and up. Default 3.",
        show_default=False,
    ),
]
Prompts = Annotated[
    str | None,
    typer.Option(
        metavar="FILE", help="To measure on; RUN's held-out ones unless given.", show_default=False
    ),
]
Limit = Annotated[int | None, typer.Option(help="Measure on at most N prompts.", show_default=False)]
Pictures = Annotated[
    int | None, typer.Option(help="Pictures per prompt, by start noise. Default 4.", show_default=False)
]
Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Sample base and tuned at this guidance, RUN's unless given.", show_default=False
    ),
]
Measure = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Also judge pictures by it: `rpo list measures`.", show_default=False
    ),
]
AllowSeen = Annotated[
    bool | None,
    typer.Option(
        "--allow-training-prompts", help="Measure on prompts that RUN has trained on.", show_default=False
    ),
]
Plan = Annotated[
    bool, typer.Option("--dry-run", help="Print the trainings and what is there; make nothing.")
]
Form = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="Print the figures for another program: Markdown tables, or CSV of all digits.",
        show_default=False,
    ),
]
Unset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION",
        help="Take back what this sweep was told before, e.g. beta or train.steps; repeatable.",
        show_default=False,
    ),
]
AHEAD = ("--dry-run",)


def sweep(
    context: typer.Context,
    run: o.ExistingRun,
    name: Name = "sweep",
    method: Methods = None,
    beta: Betas = None,
    learning_rate: Rates = None,
    seeds: Seeds = None,
    steps: Annotated[int | None, o.setting("train.steps")] = None,
    rounds: Annotated[int | None, o.setting("train.rounds")] = None,
    model: Annotated[str | None, o.setting("train.model")] = None,
    prompts: Prompts = None,
    column: Annotated[str | None, o.setting("prompts.column")] = None,
    limit: Limit = None,
    images_per_prompt: Pictures = None,
    guidance: Guidance = None,
    reward: Annotated[list[str] | None, o.setting("score.rewards")] = None,
    measure: Measure = None,
    allow_training_prompts: AllowSeen = None,
    form: Form = None,
    accept_license: o.AcceptLicense = None,
    dry_run: Plan = False,
    rehash: o.Rehash = False,
    device: o.Device = None,
    assign: o.Assign = None,
    unset: Unset = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train methods x betas x learning rates x seeds, evaluate all, and tell which differ.

    Example: rpo sweep demo --method dpo,kto,ppod --seeds 3 --measure shapes-oracle
    """
    from rpo_cli.line.sweep.run import plan_sweep
    from rpo_cli.line.sweep.run import sweep as swept

    say = step.console(context)
    if form is not None and say.mode == "json":
        raise UsageError("--format does not go with --json", "leave one of them out")
    asked = _request(context)
    line = _opened(context, say)
    if dry_run:
        sweeps.planned(say, plan_sweep(line, name, asked, unset or ()))
        step.again(context, say, AHEAD)
        return
    sweeps.found(say, swept(line, name, asked, unset or ()), form)
    step.after(context, say, line, "eval")


def _request(context: typer.Context) -> dict[str, Any]:
    """What the sweep is asked for; None: not given."""
    params = context.params
    alike = ("seeds", "prompts", "column", "limit", "images_per_prompt", "guidance", "measure")
    return {
        "methods": listed("--method", params["method"], str),
        "betas": listed("--beta", params["beta"], float),
        "learning_rates": listed("--learning-rate", params["learning_rate"], float),
        "rewards": tuple(params["reward"]) if params["reward"] else None,
        "allow_training_prompts": params["allow_training_prompts"],
        **{name: params[name] for name in alike},
    }


def _opened(context: typer.Context, say: Output) -> "Line":
    """The run, with what every training is told and how to run."""
    from rpo_cli.line.session import open_line

    params = context.params
    shared = {
        name: params[name] for name in ("steps", "rounds", "model", "device", "accept_license", "assign")
    }
    return open_line(
        params["run"],
        o.settings_of_options("train", shared),
        observer=say.observer(),
        create=False,
        rehash=params["rehash"],
        uses=("train", "online", "rounds"),
        command="rpo sweep",
    )


def listed(option: str, text: str | None, kind: type[str] | type[float]) -> tuple[Any, ...] | None:
    """What stands between commas.

    Raises:
        UsageError: nothing, or what is no number above 0 where numbers are asked for.
    """
    if text is None:
        return None
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise UsageError(f"{option} '{text}': names nothing", f"{option} A,B")
    if kind is str:
        return tuple(words)
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = (0.0,)
    if not all(0 < number < float("inf") for number in numbers):
        raise UsageError(f"{option} {text}: not numbers above 0 with commas between", f"{option} 500,2000")
    return numbers

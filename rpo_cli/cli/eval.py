"""`rpo eval`: base against tuned models, or what a dataset's labels are worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rpo_cli.cli import evaluations, step
from rpo_cli.cli import options as o
from rpo_cli.cli.output import Output
from rpo_cli.cli.tables import Format
from rpo_cli.errors import UsageError

if TYPE_CHECKING:
    from rpo_cli.line.session import Line

Name = Annotated[str, typer.Option(help="Folder of the evaluation in RUN/eval.")]
Adapter = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REF",
        help="A training of RUN, or a folder; LABEL=A,B,C: training seeds of one setting; repeatable.",
        show_default=False,
    ),
]
PromptFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Prompts; RUN's held-out ones unless given.", show_default=False),
]
Limit = Annotated[
    int | None,
    typer.Option(min=1, help="At most N prompts; with --judge-labels pairs.", show_default=False),
]
ImagesPerPrompt = Annotated[int, typer.Option(min=1, max=1000, help="Pictures per prompt, by start noise.")]
Noise = Annotated[
    int | None, typer.Option(min=0, help="That the start noises come from.", show_default=False)
]
Guidance = Annotated[
    list[float] | None,
    typer.Option(
        metavar="X",
        help="Sample base and tuned at this guidance, RUN's unless given; repeatable; not kept for RUN.",
        show_default=False,
    ),
]
Measure = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Also judge pictures by it: `rpo list measures`.", show_default=False
    ),
]
AllowSeen = Annotated[
    bool, typer.Option("--allow-training-prompts", help="Measure on prompts that RUN has trained on.")
]
JudgeLabels = Annotated[
    bool, typer.Option("--judge-labels", help="Judge the labels of RUN/dataset instead of models.")
]
Form = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="Print the figures for another program: Markdown tables, or CSV of all digits.",
        show_default=False,
    ),
]

# options of an evaluation, with their defaults: asked for once, they are of the evaluation of that name
ASKED: dict[str, Any] = {
    "adapter": (),
    "prompts": None,
    "column": None,
    "limit": None,
    "images_per_prompt": 4,
    "seed": None,
    "guidance": (),
    "reward": (),
    "measure": None,
    "allow_training_prompts": False,
    "assign": (),
    "mix": None,
}
# options that are settings; of a run that asks servers, how these are reached
SETTINGS = ("critic_url", "key_variable", "server_python", "device", "accept_license", "assign", "mix")
Unset = Annotated[
    list[str] | None,
    typer.Option(
        metavar="OPTION",
        help="Take back what this evaluation was asked with before, e.g. limit; repeatable.",
        show_default=False,
    ),
]


def evaluate(
    context: typer.Context,
    run: o.ExistingRun,
    name: Name = "default",
    adapter: Adapter = None,
    prompts: PromptFile = None,
    column: Annotated[str | None, o.setting("prompts.column")] = None,
    limit: Limit = None,
    images_per_prompt: ImagesPerPrompt = 4,
    seed: Noise = None,
    guidance: Guidance = None,
    reward: Annotated[list[str] | None, o.setting("score.rewards")] = None,
    measure: Measure = None,
    allow_training_prompts: AllowSeen = False,
    judge_labels: JudgeLabels = False,
    form: Form = None,
    critic_url: o.CriticUrl = None,
    key_variable: o.KeyVariable = None,
    server_python: o.ServerPython = None,
    accept_license: o.AcceptLicense = None,
    device: o.Device = None,
    rehash: o.Rehash = False,
    assign: o.Assign = None,
    unset: Unset = None,
    mix: o.Mix = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare trained models with their base on equal prompts and start noise, several seeds each.

    Example: rpo eval demo --measure shapes-oracle
    """
    _refuse_what_is_not_used(context)
    say = step.console(context)
    if form is not None and say.mode == "json":
        raise UsageError("--format does not go with --json", "leave one of them out")
    line = _opened(context, say)
    if judge_labels:
        from rpo_cli.line.evaluation.labels import audit

        evaluations.audited(say, audit(line, name=name, measure=measure, limit=limit), form)
    else:
        _compared(context, say, line)
    step.after(context, say, line, "eval")


def _opened(context: typer.Context, say: Output) -> "Line":
    """The run; settings that the command is given are of this evaluation, not of the run."""
    from rpo_cli.line.evaluation.prompts import earlier_request
    from rpo_cli.line.session import open_line

    params = context.params
    asked = earlier_request(params["run"], params["name"], tuple(params["unset"] or ()))
    named = {key: params[key] for key in SETTINGS}
    named |= {key: named[key] or asked.get(key) for key in ("assign", "mix")}
    return open_line(
        params["run"],
        o.settings_of_options("eval", named),
        observer=say.observer(),
        create=False,
        rehash=params["rehash"],
        uses=("run", "generate", "score"),
        command="rpo eval",
    )


def _compared(context: typer.Context, say: Output, line: "Line") -> None:
    """Base against tuned models, as this call asks or as the evaluation was asked before."""
    from rpo_cli.line.evaluation.evaluate import evaluate as compare
    from rpo_cli.line.evaluation.labels import probes
    from rpo_cli.line.evaluation.prompts import placed, remembered_request, request_kept
    from rpo_cli.settings_checks import anchored

    params = context.params
    name, given = params["name"], {key: params[key] for key in ASKED if on_command_line(context, key)}
    given = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    given = placed(line, given, Path(), anchored)
    asked = remembered_request(line, name, given, ASKED, tuple(params["unset"] or ()))
    if asked["column"] and not asked["prompts"]:
        raise UsageError("--column names a column of --prompts", "pass --prompts FILE")
    with request_kept(line, name, asked, ASKED):
        found = compare(
            line,
            name=name,
            adapters=asked["adapter"],
            prompts=None if asked["prompts"] is None else Path(asked["prompts"]),
            column=asked["column"],
            limit=asked["limit"],
            seeds=asked["images_per_prompt"],
            seed=asked["seed"],
            guidances=asked["guidance"],
            rewards=asked["reward"],
            measure=asked["measure"],
            allow_training_prompts=asked["allow_training_prompts"],
        )
    shortcuts = probes(line, name)
    evaluations.compared(say, found, shortcuts, params["form"])
    if shortcuts is None:
        hint = f"`rpo eval {params['run']} --judge-labels` probes the pairs for it"
        say.hint(f"a gain may rest on how edits look: {hint}")


def _refuse_what_is_not_used(context: typer.Context) -> None:
    """Options about models say nothing about a dataset, and a column nothing without its file.

    Raises:
        UsageError: names them.
    """
    params = context.params
    about_models = (
        *("adapter", "prompts", "images_per_prompt", "seed"),
        *("guidance", "reward", "allow_training_prompts"),
    )
    given = [name for name in about_models if on_command_line(context, name)]
    if params["judge_labels"] and given:
        raise UsageError(
            f"--judge-labels does not go with {', '.join('--' + name.replace('_', '-') for name in given)}",
            "leave them out, or leave out --judge-labels",
        )


def on_command_line(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, whatever its value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"

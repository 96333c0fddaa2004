"""`rpo try`: base beside tuned models on prompts of the user's."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import Output, counted

if TYPE_CHECKING:
    from rpo_cli.line.evaluation.try_models import Tried

Texts = Annotated[list[str], typer.Argument(metavar="PROMPT", help="In quotes; a row of pictures each.")]
Name = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REF",
        help="A training of RUN, or a folder; a column each; repeatable. Every training unless given.",
        show_default=False,
    ),
]
ImagesPerPrompt = Annotated[
    int, typer.Option(min=1, max=100, help="Pictures per prompt and model, by start noise.")
]
Noise = Annotated[
    int | None,
    typer.Option(min=0, help="That the start noises come from; as `rpo eval` has it.", show_default=False),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        metavar="X",
        help="Sample all at this guidance, RUN's unless given; not kept for RUN.",
        show_default=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The PNG file; one in RUN/try unless given.", show_default=False),
]


def try_models(
    context: typer.Context,
    run: o.ExistingRun,
    prompts: Texts,
    name: Name = None,
    images_per_prompt: ImagesPerPrompt = 1,
    seed: Noise = None,
    guidance: Guidance = None,
    out: Out = None,
    accept_license: o.AcceptLicense = None,
    device: o.Device = None,
    rehash: o.Rehash = False,
    assign: o.Assign = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Draw prompts with trained models beside their base, from the same start noise, in one picture file.

    Example: rpo try demo "a red circle" "two blue squares"
    """
    from rpo_cli.line.evaluation.try_models import try_models as draw
    from rpo_cli.line.session import open_line

    say = step.console(context)
    told = o.settings_of_options(
        "try", {"device": device, "accept_license": accept_license, "assign": assign}
    )
    line = open_line(
        run, told, observer=say.observer(), create=False, rehash=rehash, uses=("run", "generate")
    )
    found = draw(
        line, prompts, names=name or (), seeds=images_per_prompt, seed=seed, guidance=guidance, out=out
    )
    tried(say, found)


def tried(say: Output, found: "Tried") -> None:
    """What the picture shows, and its path."""
    models = ", ".join(found.models)
    at = "" if found.guidance is None else f", guidance {found.guidance:g}"
    lines = [f"prompts: {len(found.prompts)}, start noises of each: {found.seeds} (seed {found.seed}){at}"]
    lines += [f"models: {models}"]
    lines += [
        f"rejected of {label}: {counted(reasons)}" for label, reasons in found.rejected.items() if reasons
    ]
    lines += [f"picture: {found.path}" + (" (already there)" if found.skipped else "")]
    say.result(asdict(found), "\n".join(lines), essence=found.path)

"""`rpo push`: the dataset to the hub."""

from typing import Annotated

import typer

from rpo_cli.cli import options as o
from rpo_cli.cli import reports, step


def push(
    context: typer.Context,
    run: o.ExistingRun,
    repo_id: Annotated[str, typer.Argument(metavar="REPO_ID", help="OWNER/NAME on the hub.")],
    public: Annotated[bool, typer.Option("--public", help="For everybody; else private.")] = False,
    accept_license: Annotated[
        bool,
        typer.Option("--accept-license", help="Push although an inherited licence is non-commercial."),
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Upload RUN's dataset to the Hugging Face hub in one commit, private unless --public.

    The token is that of `hf auth login` or HF_TOKEN.

    Example: rpo push demo me/shapes-pairs
    """
    from rpo_cli.line.dataset.push import push as upload
    from rpo_cli.line.session import open_line

    say = step.console(context)
    line = open_line(run, create=False, observer=say.observer(), uses=())
    reports.pushed(say, upload(line, repo_id, public=public, accept_license=accept_license))
    step.status(say, run)

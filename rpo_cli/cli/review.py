"""`rpo review`: judge pairs blind, side by side; --summary says what came of it."""

import getpass
import os
import re
import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rpo_cli import installing
from rpo_cli.cli import options as o
from rpo_cli.cli import step
from rpo_cli.cli.output import Output, table
from rpo_cli.errors import MissingDependency, UsageError

if TYPE_CHECKING:
    from rpo_cli.line.review.agreement import ReviewSummary, Share


def summary_text(found: "ReviewSummary") -> str:
    """A table of reviewers, one of their agreement with the labels, one of each two of them."""
    heads = ("reviewer", "pairs", "a side", "tie", "no use", "same again, swapped", "left preferred")
    rows = [
        (
            who.name,
            who.judged,
            *(who.choices.get(choice, 0) for choice in ("side", "tie", "reject")),
            _share(who.consistent),
            _share(who.left),
        )
        for who in found.reviewers
    ]
    kinds = [
        (who.name, kind, share.cases, _share(share))
        for who in found.reviewers
        for kind, share in who.agreement.items()
    ]
    parts = [
        table(heads, rows),
        table(("reviewer", "kind of pair", "pairs", "agrees with the label"), kinds) if kinds else "",
        "no pair has two reviewers yet: kappa needs them"
        if not found.kappas
        else table(
            ("reviewers", "pairs", "same verdict", "Cohen's kappa"),
            [
                (f"{k.first} and {k.second}", k.pairs, f"{k.same:.3f}", _share(k.kappa, cases=False))
                for k in found.kappas
            ],
        ),
        "Shares with 95 % intervals: of one reviewer Wilson's, of labels and kappa bootstrap over prompts.",
    ]
    return "\n\n".join(part for part in parts if part)


def _share(share: "Share | None", *, cases: bool = True) -> str:
    if share is None:
        return "–"
    of = f" of {share.cases:,}" if cases else ""
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]{of}"


EXTRA = ("starlette", "uvicorn")
SHORTEST_TOKEN = 16
NAME = re.compile(r"[\w.@ -]{1,64}")


def review(
    context: typer.Context,
    run: o.ExistingRun,
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0: any that is free.")] = 0,
    reviewer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Who judges; the account's name unless given.", show_default=False
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="The first N pairs, the same for all reviewers.", show_default=False
        ),
    ] = None,
    repeat: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=1, help="Share of pairs shown twice, swapped.")
    ] = 0.1,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Other than loopback: --token-env.")] = (
        "127.0.0.1"
    ),
    token_env: Annotated[
        str | None,
        typer.Option(
            metavar="VARIABLE",
            help="Environment variable that holds a token to ask for.",
            show_default=False,
        ),
    ] = None,
    summary: Annotated[
        bool, typer.Option("--summary", help="Say how far reviewers and labels agree; serve nothing.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Judge the pairs of RUN in a browser, blind; each verdict is on disk before the next pair shows.

    Ctrl-C ends it; called again it goes on. Then: rpo build-pairs RUN --use-verdicts override

    Example: rpo review demo --reviewer ann --limit 100
    """
    say = step.console(context)
    if summary:
        from rpo_cli.line.review.agreement import summarise

        found = summarise(run)
        say.result(found, summary_text(found))
        step.tell(say, f"rpo build-pairs {shlex.quote(run)} --use-verdicts override")
        return
    _installed()
    name, token = _name(reviewer), _token(host, token_env)
    _serve(say, run, host, port, name, token, limit, repeat)


def _serve(
    say: Output,
    run: str,
    host: str,
    port: int,
    reviewer: str,
    token: str | None,
    limit: int | None,
    repeat: float,
) -> None:
    from rpo_cli.cli.server.site import listening, serve
    from rpo_cli.line.review.desk import open_desk

    with open_desk(run, reviewer, limit=limit, repeat=repeat) as desk:

        def ready(address: str) -> None:
            open_to = "asks for the token; plain HTTP: use it on a network you trust, or through ssh"
            told = f"review of {run} by {reviewer}: {address}"
            say.result({"address": address, "reviewer": reviewer}, told, essence=address)
            say.hint(f"{open_to if token else 'for this machine only'}. Ctrl-C ends it.")

        try:
            with listening(host, port) as bound:
                serve(desk, bound, host, token, Path(run).resolve().name or "run", ready)
        except KeyboardInterrupt:  # the ordinary end: every verdict is on disk
            state = desk.progress()
            say.hint(f"{state.judged:,} of {state.total:,} judged")
            step.tell(say, f"rpo review {shlex.quote(run)} --summary")


def _installed() -> None:
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise MissingDependency(
            f"rpo review needs {' and '.join(missing)}, not installed", installing.extra("review")
        )


def _name(given: str | None) -> str:
    """The reviewer's name: a word of the user's, or the account's."""
    if given is None:
        try:
            given = getpass.getuser()
        except (KeyError, OSError):  # an account without a name, as in some containers
            given = "reviewer"
    if not NAME.fullmatch(given.strip()):
        raise UsageError(
            f"--reviewer {given[:80]!r}: not a name", "1 to 64 letters, digits, spaces, dots, @, - or _"
        )
    return given.strip()


def _token(host: str, variable: str | None) -> str | None:
    """The token; a machine that others can reach must have one."""
    from rpo_cli.cli.server.guard import loopback

    if variable is None:
        if loopback(host):
            return None
        raise UsageError(
            f"--host {host}: others could judge on your behalf",
            "put a long random token into a variable and name it: --token-env VARIABLE",
        )
    token = os.environ.get(variable, "")
    if len(token) < SHORTEST_TOKEN:
        raise UsageError(
            f"--token-env {variable}: holds {'nothing' if not token else 'a short token'}",
            f"at least {SHORTEST_TOKEN} characters, for example: export {variable}=$(openssl rand -hex 16)",
        )
    return token

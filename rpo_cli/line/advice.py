"""The command to type next on a run, from what is there."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rpo_cli.line.imports.sources import labelled_only
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import wants_edits

if TYPE_CHECKING:
    from rpo_cli.line.status import StageStatus

# step → the command that makes its rows, and the option without which it cannot
COMMANDS = {"generate": "generate", "critique": "critique", "edit": "edit", "score": "build-pairs"}
# command → the one after it
AFTER = {
    "generate": "critique",
    "import": "critique",
    "critique": "edit",
    "edit": "build-pairs",
    "build-pairs": "train",
    "train": "eval",
    "eval": "report",
}
MODELS = {"generate": "generator", "critique": "critic", "edit": "editor"}


def next_command(line: Line, stages: "Sequence[StageStatus]", *, stale: bool = False) -> str | None:
    """A whole command line; None when nothing is left to make, or no command mends what is wrong.

    Args:
        stale: the dataset is older than what it is built from.
    """
    run = shlex.quote(line.store.url)
    settings = line.settings
    prompted = settings.prompts.file is not None or settings.prompts.dataset is not None
    if "prompts" not in line.store.read_manifest() and not any(stage.stage == "import" for stage in stages):
        return f"rpo generate {run}{'' if prompted else ' --prompts FILE'}"
    idle = set() if wants_edits(line) else {"critique", "edit"}
    idle |= {"score"} if labelled_only(line) else set()
    for stage in stages:
        if stage.stage in idle or stage.stage not in COMMANDS:
            continue
        command = f"rpo {COMMANDS[stage.stage]} {run}"
        if stage.wanted is None:
            return f"{command}{_model(line, stage.stage)}" if _model(line, stage.stage) else None
        if stage.missing:
            return command
    return f"rpo build-pairs {run}" if stale else _after_rows(line, run)


def following(line: Line, command: str) -> str:
    """The command to type after one that has done its work; looks at settings alone, reads no row."""
    then = AFTER.get(command, "status")
    if then in ("critique", "edit") and not wants_edits(line):
        then = "build-pairs"
    option = _reward(line) if then == "build-pairs" else _model(line, then)
    return f"rpo {then} {shlex.quote(line.store.url)}{option}"


def _reward(line: Line) -> str:
    judged = bool(line.settings.score.named) or labelled_only(line)
    return "" if judged else " --reward NAME=FOLDER_OR_HUB_ID"


def _model(line: Line, stage: str) -> str:
    """The option that names a stage's model, when the settings name none."""
    role = MODELS.get(stage)
    unset = role is not None and getattr(getattr(line.settings, stage), role) is None
    return f" --{role} FOLDER_OR_HUB_ID" if unset else ""


def _after_rows(line: Line, run: str) -> str | None:
    files = line.store.files
    if not files.exists("dataset/README.md"):
        return f"rpo build-pairs {run}{_reward(line)}"
    started = {name.split("/")[1] for name in files.find("train", "/settings.json") if name.count("/") == 2}
    done = {name.split("/")[1] for name in files.find("train", "/done.json") if name.count("/") == 2}
    if left := sorted(started - done):
        return f"rpo train {run} --name {shlex.quote(left[0])}"
    if not done:
        return f"rpo train {run}"
    if not evaluated(line):
        return f"rpo eval {run}"
    return None if files.exists("report/index.html") else f"rpo report {run}"


def evaluated(line: Line, results: str = "results.json") -> list[str]:
    """Names of the evaluations that have results."""
    found = line.store.files.find("eval", f"/{results}")
    return sorted(name.split("/")[1] for name in found if name.count("/") == 2)

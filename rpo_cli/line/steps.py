"""The stages of the line, in order."""

from rpo_cli.line.imports.sources import generates
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import Work
from rpo_cli.line.work.critique import critique_work
from rpo_cli.line.work.edit import edits_and_floor
from rpo_cli.line.work.generate import generate_work
from rpo_cli.line.work.score import score_works


def works(line: Line, name: str) -> list[Work]:
    """The works of one step of the line: generate, critique, edit or score."""
    if name == "score":
        return score_works(line)
    if name == "generate" and not generates(line):
        return []
    return [{"generate": generate_work, "critique": critique_work, "edit": edits_and_floor}[name](line)]

"""What a user should know of a run's counter-edits before they are made."""

from rpo_cli.errors import UsageError
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import critique_work, edit_work


def check_counter_edits(line: Line) -> None:
    """Refuse pairs of counter-edits alone where none is asked for.

    Raises:
        UsageError: `pairs.edits` is counter, `edit.counter_edits` is 0.
    """
    s = line.settings
    if s.pairs.edits == "counter" and s.edit.counter_edits == 0 and s.pairs.strategy in ("edits", "all"):
        raise UsageError(
            "pairs.edits = counter: no counter-edit is asked for, edit.counter_edits is 0",
            f"rpo edit {line.store.url} --counter-edits 1 makes one of each picture",
        )


def counter_notes(line: Line) -> list[str]:
    """Pictures that get fewer counter-edits than asked for, and critiques that would change the draw."""
    count = line.settings.edit.counter_edits
    if count == 0 or line.settings.pairs.edits == "answers":
        return []
    critiques = critique_work(line)
    there = critiques.keys & line.store.keys("critiques")
    missing = len(critiques.keys - there - line.store.rejected(critiques.name))
    drawn = sum(task.payload.purpose == "counter" for task in edit_work(line).tasks)
    notes = []
    if lacking := count * len(there) - drawn:
        notes.append(f"{lacking:,} counter-edits are not made: no instruction of another prompt is left")
    if missing:
        notes.append(f"{missing:,} critiques are missing: with theirs, other counter-edits are wanted")
    return notes

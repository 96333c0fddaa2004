"""What a stage says at its end: replies not taken as they came, texts that no picture shows whole."""

from collections.abc import Iterator, Mapping

from rpo_cli.line.session import Line
from rpo_cli.line.work.edit import edit_work
from rpo_cli.line.work.generate import generate_work
from rpo_cli.stages.generate import cut_note
from rpo_cli.stages.replies import SAID, WHAT


def cleaned_notes(counts: Mapping[str, int]) -> Iterator[str]:
    """Lines: "5 replies held thinking, which was cut away".

    Args:
        counts: what was done, a key of `SAID` → to how many replies or instructions.
    """
    for note, count in sorted(counts.items()):
        what, several = ("reply", "replies") if note not in WHAT else (WHAT[note], f"{WHAT[note]}s")
        yield f"{count:,} {what if count == 1 else several} {SAID[note]}"


# stage → (work, table, key column, column of the text, what several texts are called)
STAGES = {
    "generate": (generate_work, "images", "image_id", "prompt", "prompts"),
    "edit": (edit_work, "edits", "edit_id", "instruction", "instructions"),
}


def truncated_notes(line: Line, stage: str) -> list[str]:
    """A line on the texts of a stage that are longer than a text encoder reads; nothing where none is."""
    if stage not in STAGES:
        return []
    work_of, table, key, column, what = STAGES[stage]
    rows = line.store.columns(table, [key, column, "truncated"])
    if rows["truncated"].null_count == len(rows):
        return []
    keys = work_of(line).keys
    texts: dict[str, dict[str, float] | None] = {}
    for row in rows.to_pylist():
        if row[key] in keys:
            over = {item["name"]: item["value"] for item in row["truncated"] or ()}
            texts[row[column]] = over or texts.get(row[column])
    note = cut_note(stage, what, texts)
    return [note] if note else []

"""What a stage says at its end: replies not taken as they came, texts that no picture shows whole."""

from collections.abc import Iterator, Mapping

from rpo_cli.line.session import Line
from rpo_cli.line.work.base import StageSpec
from rpo_cli.schema import key_of
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


def truncated_notes(line: Line, spec: StageSpec) -> list[str]:
    """A line on the texts of a stage that are longer than a text encoder reads; nothing where none is."""
    if spec.text is None:
        return []
    key, (column, what) = key_of(spec.table), spec.text
    rows = line.store.columns(spec.table, [key, column, "truncated"])
    if rows["truncated"].null_count == len(rows):
        return []
    keys = {key for work in spec.works(line) for key in work.keys} - spec.apart(line)
    texts: dict[str, dict[str, float] | None] = {}
    for row in rows.to_pylist():
        if row[key] in keys:
            over = {item["name"]: item["value"] for item in row["truncated"] or ()}
            texts[row[column]] = over or texts.get(row[column])
    note = cut_note(spec.name, what, texts)
    return [note] if note else []

"""What a stage says at its end of replies that were not taken as they came."""

from collections.abc import Iterator, Mapping

from rpo_cli.stages.replies import SAID, WHAT


def cleaned_notes(counts: Mapping[str, int]) -> Iterator[str]:
    """Lines: "5 replies held thinking, which was cut away".

    Args:
        counts: what was done, a key of `SAID` → to how many replies or instructions.
    """
    for note, count in sorted(counts.items()):
        what, several = ("reply", "replies") if note not in WHAT else (WHAT[note], f"{WHAT[note]}s")
        yield f"{count:,} {what if count == 1 else several} {SAID[note]}"

"""How much the two pictures of each pair differ, beside what the editor changes by itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from rpo_cli.line.dataset.picture_cache import PictureShelf
from rpo_cli.line.work.edit_floor import Floors
from rpo_cli.protocols import Observer
from rpo_cli.records import EDITED
from rpo_cli.stages.differences import Difference, measure
from rpo_cli.stages.pairs import Candidate

CHUNK = 64


def differences_of(
    pairs: Sequence[Candidate],
    shelf: PictureShelf,
    observer: Observer,
    edits: Iterable[Mapping[str, Any]],
    floors: Floors,
) -> list[Difference | None]:
    """One of each pair, None where a picture cannot be read.

    Args:
        edits: light rows with the guidances that each edit was made with, which have a floor each.
    """
    made = {row["edit_id"]: (row["guidance"], row["image_guidance"]) for row in edits} if floors.by else {}
    return [
        replace(found, floor=floors.by.get(made[pair.b.id]))
        if found is not None and pair.kind in EDITED and pair.b.id in made
        else found
        for pair, found in zip(pairs, _measured(pairs, shelf, observer), strict=True)
    ]


def _measured(
    pairs: Sequence[Candidate], shelf: PictureShelf, observer: Observer
) -> list[Difference | None]:
    observer.start("build-pairs", len(pairs), 0)
    values = measure(((pair.a.sha256, pair.b.sha256) for pair in pairs), shelf)
    measured: list[Difference | None] = []
    while chunk := list(islice(values, CHUNK)):
        measured += chunk
        observer.advance(len(chunk), chunk.count(None))
    observer.finish()
    return measured

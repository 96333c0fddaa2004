"""What a run's editor changes by itself: its edits under an empty instruction, measured."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import product

from rpo_cli.errors import CorruptImage
from rpo_cli.line.session import Line
from rpo_cli.line.work import models
from rpo_cli.line.work.base import edits_and_floor, floor_tasks, live_images, reject_reasons
from rpo_cli.pictures import decode, to_array
from rpo_cli.records import Edit, Image
from rpo_cli.stages.differences import mean_absolute_difference
from rpo_cli.stages.edit import NO_FLOOR, floor_of
from rpo_cli.store import Store

Guidances = tuple[float | None, float | None]  # of the text, of the picture


@dataclass(frozen=True)
class Floors:
    """Guidances → change of an edit that was asked for nothing, and on how many pictures in all."""

    by: Mapping[Guidances, float]
    pictures: int


def measured(store: Store, keys: Set[str]) -> Floors:
    """Of the rows of the floor that are there; a picture that cannot be read has no say."""
    edits = [row for row in store.fetch("edits", keys & store.keys("edits")) if isinstance(row, Edit)]
    ids = {row.image_id for row in edits} & store.keys("images")
    images = {row.key: row for row in store.fetch("images", ids) if isinstance(row, Image)}
    changes: dict[Guidances, list[float]] = defaultdict(list)
    for row in edits:
        try:
            before, after = (
                to_array(decode(data)) for data in (images[row.image_id].image.bytes, row.image.bytes)
            )
        except (CorruptImage, KeyError):  # KeyError: its original belongs to older settings and is gone
            continue
        changes[row.guidance, row.image_guidance].append(mean_absolute_difference(before, after))
    by = {key: floor_of(found) for key, found in changes.items()}
    return Floors(by, sum(map(len, changes.values())))


def floor_keys(line: Line) -> set[str]:
    return {task.key for task in floor_tasks(line)}


def floor_size(line: Line, to_come: int) -> int:
    """Edits of the floor once that many more pictures are there."""
    chosen = models.editor(line)
    pictures = len({row["sha256"] for row in live_images(line)}) + to_come
    grid = len(set(product(chosen.guidance, chosen.image_guidance)))
    return min(line.settings.edit.floor_pictures, pictures) * grid


def floor_notes(line: Line) -> Iterator[str]:
    """Why an editor has no floor, or not yet; nothing where it has one."""
    keys = floor_keys(line)
    there = keys & line.store.keys("edits")
    if not keys or there:
        return
    refused = reject_reasons(line, edits_and_floor(line), keys)[NO_FLOOR]
    given = f"pairs.min_change = {line.settings.pairs.min_change:g} alone says which edits changed nothing"
    if refused:
        yield f"edit floor: the editor refuses an empty instruction ({refused:,} of {len(keys):,}); {given}"
    else:
        yield f"edit floor: not measured, rpo edit {line.store.url} does it; {given}"


def floor_edits(store: Store, group: str) -> set[str]:
    """Keys of a group's rows that are of the floor: pictures that take part in nothing."""
    rows = store.columns("edits", ["edit_id", "purpose"], group=group).to_pylist()
    return {row["edit_id"] for row in rows if row["purpose"] == "floor"}


def taking_part(store: Store, table: str) -> dict[str, int]:
    """Group → rows of a table, without those of the floor."""
    counts = store.counts(table)
    if table != "edits":
        return counts
    return {group: count - len(floor_edits(store, group)) for group, count in counts.items()}

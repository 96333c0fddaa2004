"""What a run's editor changes by itself: its edits under an empty instruction, measured."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any

from rpo_cli.errors import CorruptImage, UsageError
from rpo_cli.line.session import Line
from rpo_cli.line.work import models
from rpo_cli.line.work.base import Work, build_backend, light_rows, once, reject_reasons, settings_group
from rpo_cli.line.work.critique import critique_work
from rpo_cli.line.work.generate import live_images
from rpo_cli.pictures import decode, to_array
from rpo_cli.protocols import Stage, Task
from rpo_cli.records import Edit, Image, canonical_json
from rpo_cli.stages import edit
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


@once("images", "critiques", "claims")
def edit_work(line: Line) -> Work:
    s = line.settings.edit
    chosen = models.editor(line)
    settings = canonical_json(chosen.said)
    seed, taken = line.settings.run.seed, line.settings.pairs.edits
    numbers = {"guidance": chosen.guidance, "image_guidance": chosen.image_guidance}
    said: dict[str, Any] = {**numbers, "seed": seed, "settings": settings}
    critiques = list(critiqued(line))
    tasks: list[Task] = []
    if taken != "counter":
        tasks += edit.wanted(critiques, mode=s.mode, attempts=s.edits_per_image, **said)
    if taken != "answers":
        tasks += edit.wanted_counter_edits(critiques, count=s.counter_edits, **said)

    def stage(device: str, environment: str) -> Stage:
        options = {**chosen.options, "device": device}
        build = partial(build_backend, "editors", chosen.name, chosen.models[0].ref, **options)
        finish = edit.Finish(settings, environment)
        return Stage("edit", "edits", s.batch_size, build, edit.step, finish, edit.bucket)

    return Work(
        "edit",
        "edits",
        settings_group("edit", settings, seed),
        settings,
        tasks,
        chosen.models,
        stage,
        lambda task: ("images", task.payload.source.image_id),
    )


def edits_and_floor(line: Line) -> Work:
    """All that the edit stage makes: the edits, and beside any the pictures edited for the floor."""
    work = edit_work(line)
    return replace(work, tasks=[*work.tasks, *floor_tasks(line)])


@once("images", "critiques", "claims")
def floor_tasks(line: Line) -> list[Task]:
    """Pictures to edit under an empty instruction; none where nothing is to be edited."""
    s = line.settings.edit
    if not s.floor_pictures or not edit_work(line).tasks:
        return []
    chosen = models.editor(line)
    pictures = (
        edit.Critiqued(
            *("", row["image_id"], row["sha256"], row["prompt_id"], row["prompt"], ()), row["decoding"]
        )
        for row in live_images(line)
    )
    found = edit.wanted_floor(
        pictures,
        count=s.floor_pictures,
        guidance=chosen.guidance,
        image_guidance=chosen.image_guidance,
        seed=line.settings.run.seed,
        settings=canonical_json(chosen.said),
    )
    return list(found)


def critiqued(line: Line) -> Iterator[edit.Critiqued]:
    """The live critiques, by key."""
    images = {(row["sha256"], row["prompt_id"]): row for row in live_images(line)}
    columns = ["critique_id", "image_sha256", "prompt_id", "prompt", "instructions"]
    for row in light_rows(line, "critiques", critique_work(line).keys, columns):
        image = images[row["image_sha256"], row["prompt_id"]]
        told = {"image_id": image["image_id"], "decoding": image["decoding"]}
        yield edit.Critiqued(**{**row, "instructions": tuple(row["instructions"]), **told})


def wants_edits(line: Line) -> bool:
    """Whether edits take part in the pairs, so that a critic and an editor are needed."""
    return line.settings.pairs.strategy in ("edits", "all")


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

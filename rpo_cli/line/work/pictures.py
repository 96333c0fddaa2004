"""The pictures of tasks, read when they are wanted: a task that waits holds none."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

from rpo_cli.errors import CorruptImage
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import Work
from rpo_cli.pictures import decode
from rpo_cli.protocols import Task
from rpo_cli.records import Edit, Image, Reject

CHUNK = 32  # pictures beside those of the tasks in flight


def hydrate(line: Line, work: Work, tasks: list[Task]) -> Iterator[Task | Reject]:
    """The tasks with their pictures, read part by part; a corrupt picture is a reject of its tasks."""
    found = _with_own(line, work, tasks)
    if work.other_of is None:
        yield from found
        return
    while chunk := list(islice(found, CHUNK)):
        yield from _with_others(line, work, chunk)


def _with_others(line: Line, work: Work, items: list[Task | Reject]) -> Iterator[Task | Reject]:
    """The tasks with the images that they are compared with; few at a time."""
    assert work.other_of is not None
    asked = (work.other_of(item) for item in items if isinstance(item, Task))
    ids = {other for other in asked if other is not None}
    others = {row.key: row for row in line.store.fetch("images", ids)} if ids else {}
    for item in items:
        other = work.other_of(item) if isinstance(item, Task) else None
        if isinstance(item, Reject) or other is None:
            yield item
            continue
        row = others[other]
        assert isinstance(row, Image)
        try:
            picture = decode(row.image.bytes)
        except CorruptImage as error:
            yield _corrupt(work, item, error)
        else:
            yield replace(item, payload=replace(item.payload, other=picture))


def _with_own(line: Line, work: Work, tasks: list[Task]) -> Iterator[Task | Reject]:
    if work.picture_of is None:
        yield from tasks
        return
    wanted: dict[str, dict[str, list[Task]]] = {}
    for task in tasks:
        table, key = work.picture_of(task)
        wanted.setdefault(table, {}).setdefault(key, []).append(task)
    for table, by_key in wanted.items():
        for row in line.store.fetch(table, set(by_key)):
            assert isinstance(row, Image | Edit)
            yield from _with_picture(work, by_key[row.key], row.image.bytes)


def _with_picture(work: Work, tasks: list[Task], data: bytes) -> Iterator[Task | Reject]:
    try:
        picture = decode(data)
    except CorruptImage as error:
        yield from (_corrupt(work, task, error) for task in tasks)
        return
    yield from (replace(task, payload=replace(task.payload, picture=picture)) for task in tasks)


def _corrupt(work: Work, task: Task, error: CorruptImage) -> Reject:
    return Reject(
        key_of=task.key,
        stage=work.name,
        input_id=task.input_id,
        reason="corrupt_image",
        detail=str(error)[:2000],
        settings=work.settings,
    )

"""The pictures of tasks, read when they are wanted: a task that waits holds none."""

from collections.abc import Iterator
from dataclasses import replace

from rpo_cli.errors import CorruptImage
from rpo_cli.line.context import Line
from rpo_cli.line.work import Work
from rpo_cli.pictures import decode
from rpo_cli.protocols import Task
from rpo_cli.records import Edit, Image, Reject


def hydrate(line: Line, work: Work, tasks: list[Task]) -> Iterator[Task | Reject]:
    """The tasks with their pictures, read part by part; a corrupt picture is a reject of its tasks."""
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
        for task in tasks:
            yield Reject(
                key_of=task.key,
                stage=work.name,
                input_id=task.input_id,
                reason="corrupt_image",
                detail=str(error)[:2000],
                settings=work.settings,
            )
        return
    yield from (replace(task, payload=replace(task.payload, picture=picture)) for task in tasks)

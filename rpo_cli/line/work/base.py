"""What a stage of a run still has to do: its wanted rows, and how to make them.

The rows that are wanted follow from the settings and from the rows upstream that are wanted themselves,
so rows of older settings or prompts never reach a later stage.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, TypeVar

from rpo_cli import registry
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.session import Line
from rpo_cli.line.work import critics
from rpo_cli.protocols import Stage, Task
from rpo_cli.records import content_key

Made = TypeVar("Made")


def once(*tables: str) -> Callable[[Callable[[Line], Made]], Callable[[Line], Made]]:
    """Compute again only when the prompts are others or one of these tables has other parts.

    Every stage asks for the wanted rows of all stages before it, and they are many. Settings, models and
    templates are looked at once per Line.
    """

    def decorate(function: Callable[[Line], Made]) -> Callable[[Line], Made]:
        @wraps(function)
        def remembered(line: Line) -> Made:
            parts = [part.name for table in tables for part in line.store.parts(table)]
            manifest = line.store.read_manifest()
            state = (line.planned, manifest.get("prompts"), manifest.get("imports"), parts)
            if line.memory.get(function.__name__, (None,))[0] != state:
                line.memory[function.__name__] = (state, function(line))
            found: Made = line.memory[function.__name__][1]
            return found

        return remembered

    return decorate


@dataclass(frozen=True)
class Work:
    """One stage of a run, before anything heavy is loaded.

    Attributes:
        tasks: every wanted row, present ones too, without pictures.
        group: folder of the rows that these settings make.
        stage: (device, environment JSON) → the stage; called only when a row is missing.
        picture_of: task → (table, id) of the picture it needs; None where it needs none.
        other_of: task → id of the image it is compared with; None where it is compared with none.
    """

    name: str
    table: str
    group: str
    settings: str
    tasks: list[Task]
    models: tuple[ModelIdentity, ...]
    stage: Callable[[str, str], Stage]
    picture_of: Callable[[Task], tuple[str, str]] | None = None
    other_of: Callable[[Task], str | None] | None = None

    @cached_property
    def keys(self) -> set[str]:
        return {task.key for task in self.tasks}


def settings_group(stage: str, settings: str, seed: int) -> str:
    """The folder name of a stage's rows: 8 hex digits of everything that the settings say."""
    return content_key(stage, settings, seed)[:8]


def light_rows(line: Line, table: str, keys: set[str], columns: list[str]) -> list[dict[str, Any]]:
    """The live rows of a table, without pictures, in order of their key (the first of `columns`)."""
    rows = line.store.columns(table, columns).to_pylist()
    live = {row[columns[0]]: row for row in rows if row[columns[0]] in keys}
    return [live[key] for key in sorted(live)]


def build_backend(kind: str, name: str, model: str, **options: Any) -> Any:
    if kind == "rewards":
        return critics.built_reward(name, model, **options)
    return registry.load(kind, name)(model, **options)


def reject_reasons(line: Line, work: Work, keys: set[str]) -> Counter[str]:
    """Reasons of the rejects among `keys` that no row has replaced since."""
    table = line.store.columns("rejects", ["key_of", "stage", "reason"]).to_pylist()
    stopped = {row["key_of"]: row["reason"] for row in table if row["key_of"] in keys}
    present = line.store.keys(work.table) if stopped else set()
    return Counter(reason for key, reason in stopped.items() if key not in present)


Shard = tuple[int, int]


@dataclass(frozen=True)
class Share:
    """What a call of a stage looks at, and what of it is to be made."""

    wanted: list[Task]
    keys: set[str]
    present: set[str]
    missing: list[Task]


def share_of(line: Line, work: Work, shard: Shard | None = None, *, retry_rejects: bool = False) -> Share:
    """The rows of a share of the keys; what was rejected before is missing only with `retry_rejects`."""
    wanted = [task for task in work.tasks if shard is None or int(task.key[:8], 16) % shard[1] == shard[0]]
    keys = {task.key for task in wanted}
    present = keys & line.store.keys(work.table)
    done = present if retry_rejects else present | line.store.rejected(work.name)
    return Share(wanted, keys, present, [task for task in wanted if task.key not in done])


COUNTED = "the rows before it"


@dataclass(frozen=True)
class StagePlan:
    """What a stage would do now, from the rows that are there upstream.

    Attributes:
        wanted, to_make: rows; None where nobody can tell yet.
        bytes: estimated size of the rows to make, from the rows that are there; None without any.
        basis: what rows are counted from; see `forecast.py` for those whose pictures are not made yet.
    """

    stage: str
    wanted: int | None
    present: int
    rejected: int
    to_make: int | None
    models: list[str]
    bytes: int | None
    basis: str = COUNTED


def plan_of(
    line: Line, work: Work, shard: Shard | None = None, *, retry_rejects: bool = False
) -> StagePlan:
    """What a call of one model's stage would do now."""
    share = share_of(line, work, shard, retry_rejects=retry_rejects)
    models = [f"{model.ref} ({model.revision[:16]})" for model in work.models]
    rejected = sum(reject_reasons(line, work, share.keys).values())
    to_make = len(share.missing)
    return StagePlan(
        work.name,
        len(share.wanted),
        len(share.present),
        rejected,
        to_make,
        models,
        size_of(line, work.table, to_make),
    )


def size_of(line: Line, table: str, rows: int) -> int | None:
    """Bytes of so many rows, by those that the table has; None where it has none."""
    each = sum(line.store.counts(table).values())
    return round(line.store.size(table) / each * rows) if each else None

"""The stages of the line, in order: ours, and those of plugins where they say that they stand.

What is asked of all stages walks this table: `run`, `status`, `plan`, `show`, `report`, the checks at the
door, the command table. A stage of a plugin is an entry point of the group `rpo.stages` that names
a `StageSpec`.
"""

from collections.abc import Sequence
from functools import cache

from rpo_cli import registry
from rpo_cli.errors import UsageError, nearest
from rpo_cli.line.work import critique, edit, generate, score
from rpo_cli.line.work.base import StageSpec
from rpo_cli.records import TABLES

OURS = (generate.SPEC, critique.SPEC, edit.SPEC, score.SPEC)
LAST = ("build-pairs", "train")  # the steps after those that make rows


@cache
def stages() -> tuple[StageSpec, ...]:
    """Every stage, each after the one that it names.

    Raises:
        UsageError: a plugin's stage has the name or table of another, or follows none that there is.
    """
    found = list(OURS)
    waiting: dict[str, StageSpec] = {
        name: registry.load("stages", name) for name in registry.names("stages")
    }
    for name, each in waiting.items():
        _check_names(name, each, [*found, *(other for other in waiting.values() if other is not each)])
    while waiting:  # one may follow another plugin's
        places = {spec.name: place for place, spec in enumerate(found)}
        spec = next((spec for spec in waiting.values() if spec.after in places), None)
        if spec is None:
            raise _misplaced(next(iter(waiting.values())), list(places))
        found.insert(places[spec.after] + 1, waiting.pop(spec.name))
    for spec in found:
        TABLES.setdefault(spec.table, spec.row)
    return tuple(found)


def _misplaced(spec: StageSpec, names: list[str]) -> UsageError:
    where = f"'{spec.after}', which is no stage{nearest(spec.after, names)}"
    return UsageError(f"plugin {spec.name}: it follows {where}", REMOVE)


def _check_names(name: str, spec: StageSpec, others: Sequence[StageSpec]) -> None:
    if spec.name != name:
        raise UsageError(
            f"plugin {name}: its stage is called {spec.name}; entry point and stage have one name", REMOVE
        )
    if spec.name in {*LAST, *(other.name for other in others)}:
        raise UsageError(f"plugin {name}: there is a stage {name} already", REMOVE)
    if spec.table in {*TABLES, *(other.table for other in others)}:
        raise UsageError(f"plugin {name}: there is a table {spec.table} already", REMOVE)


REMOVE = "pip uninstall the package, or ask its author"


def tables() -> tuple[str, ...]:
    """Every table of a run, those of plugins' stages last."""
    stages()
    return tuple(TABLES)


def stage_of(name: str) -> StageSpec:
    """The stage of a name.

    Raises:
        UsageError: there is none.
    """
    names = [spec.name for spec in stages()]
    if name not in names:
        raise UsageError(f"'{name}' is no stage{nearest(name, names)}", f"one of {', '.join(names)}")
    return next(spec for spec in stages() if spec.name == name)


def making(step: str) -> list[StageSpec]:
    """The stages whose rows a step of `rpo run` makes."""
    return [spec for spec in stages() if spec.command == step]


def every_step() -> tuple[str, ...]:
    """The steps of `rpo run`, in order."""
    return (*dict.fromkeys(spec.command for spec in stages() if spec.command not in LAST), *LAST)


def sections(name: str) -> tuple[str, ...]:
    """The sections of the settings that a stage works with: its own, and those of the stages before it."""
    found = ["run", "prompts"]
    for spec in stages():
        found.append(spec.section or spec.name)
        if spec.name == name:
            break
    return tuple(dict.fromkeys(found))

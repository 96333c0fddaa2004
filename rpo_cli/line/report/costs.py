"""What trainings and evaluations took, beside the stages of the line in a report's table of costs."""

import math
from collections.abc import Iterable, Iterator, Sequence

from rpo_cli.errors import RpoError
from rpo_cli.line.evaluation.evaluate import FOLDER as EVALUATIONS
from rpo_cli.line.rates import rates
from rpo_cli.line.report.provenance import trainings
from rpo_cli.line.status import TABLES
from rpo_cli.store import Store, open_store
from rpo_cli.visuals.pages import StageRow, Training


def training_rows(store: Store, made: Iterable[Training]) -> Iterator[StageRow]:
    """A row per training; what it counts are optimiser steps, or rounds of a training in rounds."""
    for training in made:
        rounds = list(_nested(store, f"train/{training.name}/rounds"))
        count = len(rounds) or training.steps
        seconds = math.fsum(map(_spent, rounds)) if rounds else training.seconds
        yield _row(f"train {training.name}", count, seconds)


def evaluation_rows(store: Store) -> Iterator[StageRow]:
    """A row per evaluation of models; what it counts are pictures, their scoring is in the time."""
    names = {name.split("/")[1] for name in store.files.find(EVALUATIONS, "/run.json")}
    for name in sorted(names):
        models = list(_nested(store, f"{EVALUATIONS}/{name}"))
        pictures = sum(_live(model).get("generate", 0) for model in models)
        yield _row(f"eval {name}", pictures, math.fsum(map(_spent, models)))


def _row(name: str, count: int, seconds: float) -> StageRow:
    return StageRow(name, count, 0, {}, count / seconds if count and seconds else None)


def _nested(store: Store, folder: str) -> Iterator[Store]:
    """The run directories right inside a folder of this one."""
    for name in sorted(store.files.find(folder, "/run.json")):
        if name.count("/") == folder.count("/") + 2:
            try:
                yield open_store(store.path(*name.split("/")[:-1]))
            except RpoError:  # gone meanwhile
                continue


def _spent(store: Store) -> float:
    """Seconds that the stages and trainings of a run took, as far as their pace is known."""
    live, paces = _live(store), rates(store)
    stages = [live[name] / pace for name, pace in paces.items() if name in live]
    return math.fsum([*stages, *(training.seconds for training in trainings(store))])


def _live(store: Store) -> dict[str, int]:
    """Stage → its rows by the settings that it last ran with."""
    groups: dict[str, str] = store.read_manifest().get("groups", {})
    kinds: Sequence[tuple[str, str]] = [(name, name.partition(" ")[0]) for name in groups]
    counts = {table: store.counts(table) for table in {TABLES[kind] for _, kind in kinds if kind in TABLES}}
    return {name: counts[TABLES[kind]].get(groups[name], 0) for name, kind in kinds if kind in TABLES}

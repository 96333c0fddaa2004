"""What a dataset is built from, and whether it is what `build-pairs` would make now."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli import keysets
from rpo_cli.config import PairSettings
from rpo_cli.errors import UsageError
from rpo_cli.keysets import Keys, digests, union
from rpo_cli.line.dataset.build import PairsReport, build_dataset, is_built
from rpo_cli.line.evaluation.models import IN_PASSING, dataset_files, evaluated, finished, trained_on
from rpo_cli.line.imports.sources import card_sources, generates, import_groups, imported, labelled_only
from rpo_cli.line.session import Line
from rpo_cli.line.steps import stages
from rpo_cli.line.work.base import wants_edits
from rpo_cli.line.work.critics import by_somebody, reward_identity, scoring, served_model
from rpo_cli.line.work.critique import critique_work
from rpo_cli.line.work.edit import edit_work, floor_keys, floor_notes
from rpo_cli.line.work.generate import generate_work
from rpo_cli.line.work.score import missing_notes, require_scores, score_works
from rpo_cli.stages.verdicts import VERDICT_COLUMNS, standing
from rpo_cli.store import Store
from rpo_cli.text import split_of
from rpo_cli.train.data.pairs import is_of_dataset

IMPORTED = ("images", "critiques", "preferences")


MIXED = (
    "Models of a closed world and others were let judge each other's pictures (`run.mix`): such verdicts "
    "say little."
)


ROLES = {"generate": "generator", "critique": "critic", "edit": "editor"}


def build_pairs(line: Line, *, allow_missing: bool = False) -> PairsReport:
    """Candidate pairs, verdicts and the dataset from the tables and scores that are there: no model.

    Args:
        allow_missing: also where a reward gave many scores that are no numbers (`require_scores`).

    Raises:
        RpoError: it did, and that is not allowed.
    """
    if not line.settings.score.named and not labelled_only(line):
        raise UsageError("no reward is set", "pass --reward NAME=FOLDER; see `rpo list rewards`")
    require_scores(line, allow_missing=allow_missing)
    with line.store.lock("build-pairs"):
        inputs = _inputs(line)
        before = before_build(line)
        with line.recorded():
            found = build_dataset(line.store, _settings(line), **inputs, observer=line.observer)
            for text in changes_since(line, before) if found.fresh else ():
                line.say(text)
            for text in _floor_notes(line, found):
                line.say(text)
            if unscored := found.dropped.get("unscored"):
                line.say(f"{unscored:,} of {found.candidates:,} candidates lack a score: dropped")
            return found


def _floor_notes(line: Line, found: PairsReport) -> list[str]:
    """The edit floor, or why there is none."""
    if not wants_edits(line):
        return []
    told = ", ".join(f"{floor:.3g}" for floor in found.floors)
    few = found.dropped.get("below_floor", 0)
    more = f"edit floor: asked for nothing, the editor changes {told} of a picture (mean of pixels, 0 to 1)"
    return [f"{more}; {few:,} edits changed no more"] if found.floors else list(floor_notes(line))


def dataset_is_current(line: Line) -> bool:
    """Whether `build_pairs` would leave the dataset as it is: no newer row, verdict, model or setting.

    Raises:
        RpoError: what the settings want cannot be told, e.g. because a model is gone.
    """
    return is_built(line.store, _settings(line), **_inputs(line))


def _settings(line: Line) -> PairSettings:
    """Those of `[pairs]`; where nothing scores, without a preset's names of rewards."""
    found = line.settings.pairs
    if scoring(line) or not labelled_only(line):
        return found
    names = ("select_by", "reward_weights")
    free = {name: PairSettings.model_fields[name].default for name in names}
    return found.model_copy(update={k: v for k, v in free.items() if not by_somebody(line, f"pairs.{k}")})


def _inputs(line: Line) -> dict[str, Any]:
    """What a dataset is built from, beside the store and the settings of `[pairs]`."""
    judged = [generate_work(line)] if generates(line) else []
    if wants_edits(line):
        judged += [critique_work(line), edit_work(line)]
    live = {table: Keys.of(()) for table in ("images", "critiques", "edits")}
    live |= {work.table: work.keys for work in judged}
    if import_groups(line):
        mine = {name: imported(line, name) for name in IMPORTED}
        live |= {name: union([live[name], keys] if name in live else [keys]) for name, keys in mine.items()}
    live["rewards"] = union(work.keys for work in score_works(line))
    more = [spec for spec in stages() if spec.sides and spec.used(line)]
    live |= {spec.table: union(work.keys for work in spec.works(line)) for spec in more}
    if reviewed := standing_keys(line.store):
        live["verdicts"] = Keys.of(reviewed)
    models = {ROLES[work.name]: work.models[0] for work in judged}
    models |= {role: model for spec in more for role, model, _ in spec.models(line) if role not in models}
    models |= {f"reward {name}": reward_identity(line, name, ref)[0] for name, ref in scoring(line)}
    named = {role: f"{Path(served_model(item)).name} {item.revision[:16]}" for role, item in models.items()}
    return {
        "live": live,
        "models": named,
        "notes": (
            *line.resolved.notes,
            *([MIXED] if line.settings.run.mix else ()),
            *missing_notes(line),
        ),
        "imports": card_sources(line),
        "floor": floor_keys(line) if wants_edits(line) else frozenset(),
        "sides": {spec.table: spec.sides for spec in more},
    }


def rows_of(store: Store) -> list[dict[str, Any]]:
    """Every entry of every reviewer."""
    return list(store.columns("verdicts", VERDICT_COLUMNS).to_pylist())


def standing_keys(store: Store) -> set[str]:
    """Keys of the verdicts that count: not skipped, not undone."""
    return {row["verdict_id"] for row in standing(rows_of(store))}


@dataclass(frozen=True)
class Accepted:
    """Ids of the pairs that are in the dataset, by the side that won."""

    a: Keys
    b: Keys

    def __len__(self) -> int:
        return len(self.a) + len(self.b)

    def without(self, other: "Accepted") -> int:
        """How many are not in another one, or with another winner."""
        return len(self.a.without(other.a)) + len(self.b.without(other.b))


@dataclass(frozen=True)
class Before:
    """The dataset as it was: its pairs, and the trainings that were made on it."""

    pairs: Accepted
    trainings: tuple[str, ...]
    val_fraction: float


def before_build(line: Line) -> Before:
    """Reads light columns; of datasets too large to be looked at in passing no trainings are told."""
    pairs = line.store.read_manifest().get("settings", {}).get("pairs", {})
    fraction = pairs.get("val_fraction", line.settings.pairs.val_fraction)
    return Before(_pairs(line), tuple(_standing(line)), fraction)


def changes_since(line: Line, before: Before) -> Iterator[str]:
    """Lines: a smaller dataset, trainings on other pairs, evaluations on prompts held out no more."""
    now = _pairs(line)
    gone, new = before.pairs.without(now), now.without(before.pairs)
    if len(now) < len(before.pairs):
        yield f"the dataset is smaller now: {len(now):,} pairs, {len(before.pairs):,} before"
    for name in before.trainings:
        if gone or new:
            yield (
                f"training '{name}' was made on the dataset before: {gone:,} of its {len(before.pairs):,} "
                f"pairs are gone, {new:,} are new"
            )
        elif name not in _standing(line):
            yield (
                f"training '{name}' was made on the dataset before: its pairs are the same, their splits, "
                "margins or weights are not"
            )
    fraction = line.settings.pairs.val_fraction
    for name in evaluated(line) if fraction != before.val_fraction else ():
        texts = _held_out(line, name, before.val_fraction)
        if moved := sum(split_of(text, fraction) == "train" for text in texts):
            yield f"evaluation '{name}': {moved:,} of its {len(texts):,} prompts are held out no more"


def _held_out(line: Line, name: str, fraction: float) -> list[str]:
    """Prompts of an evaluation that were held out from training."""
    lines = line.store.files.read(f"eval/{name}/prompts.jsonl").decode().splitlines()
    texts = [json.loads(text)["prompt"] for text in lines]
    return [text for text in texts if split_of(text, fraction) == "validation"]


def _pairs(line: Line) -> Accepted:
    rows = line.store.columns("pairs", ["pair_id", "winner", "verdict"])
    rows = rows.filter(keysets.is_equal(rows["verdict"], "accepted"))
    won = [rows.filter(keysets.is_equal(rows["winner"], side))["pair_id"] for side in ("a", "b")]
    return Accepted(*(Keys.distinct(digests(ids)) for ids in won))


def _standing(line: Line) -> Iterator[str]:
    trained = {name: trained_on(line.store.path("train", name), "dataset") for name in finished(line)}
    if not any(trained.values()):
        return
    files = [file for file in dataset_files(line.store) if file.is_file()]
    if not any(file.name.startswith("train-") for file in files):
        return
    if sum(file.stat().st_size for file in files) <= IN_PASSING:
        folder = line.store.path("dataset")
        yield from (name for name, data in trained.items() if data and is_of_dataset(folder, data))

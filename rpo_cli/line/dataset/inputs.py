"""What a dataset is built from, and whether it is what `build-pairs` would make now."""

from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.line.dataset.build import PairsReport, build_dataset, is_built
from rpo_cli.line.dataset.changes import before_build, changes_since
from rpo_cli.line.imports.sources import card_sources, generates, import_groups, imported, labelled_only
from rpo_cli.line.review.agreement import standing_keys
from rpo_cli.line.session import Line
from rpo_cli.line.steps import stages
from rpo_cli.line.work.base import wants_edits
from rpo_cli.line.work.critics import reward_identity, reward_models, served_model
from rpo_cli.line.work.critique import critique_work
from rpo_cli.line.work.edit import edit_work, floor_keys, floor_notes
from rpo_cli.line.work.generate import generate_work
from rpo_cli.line.work.score import missing_notes, require_scores, score_works

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
            found = build_dataset(line.store, line.settings.pairs, **inputs, observer=line.observer)
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
    return is_built(line.store, line.settings.pairs, **_inputs(line))


def _inputs(line: Line) -> dict[str, Any]:
    """What a dataset is built from, beside the store and the settings of `[pairs]`."""
    judged = [generate_work(line)] if generates(line) else []
    if wants_edits(line):
        judged += [critique_work(line), edit_work(line)]
    live = {"images": set[str](), "critiques": set[str](), "edits": set[str]()}
    live |= {work.table: work.keys for work in judged}
    if import_groups(line):
        live |= {name: live.get(name, set()) | imported(line, name) for name in IMPORTED}
    live["rewards"] = {key for work in score_works(line) for key in work.keys}
    more = [spec for spec in stages() if spec.sides and spec.used(line)]
    live |= {spec.table: {key for work in spec.works(line) for key in work.keys} for spec in more}
    if reviewed := standing_keys(line.store):
        live["verdicts"] = reviewed
    models = {ROLES[work.name]: work.models[0] for work in judged}
    models |= {role: model for spec in more for role, model, _ in spec.models(line) if role not in models}
    models |= {f"reward {name}": reward_identity(line, name, ref)[0] for name, ref in reward_models(line)}
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

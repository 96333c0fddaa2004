"""Where a run's rows and trainings come from, as its report tells it: models, settings, prompts, curves."""

import json
import math
from collections.abc import Mapping
from typing import Any

from rpo_cli import templates
from rpo_cli.errors import RpoError
from rpo_cli.identity import pin_name
from rpo_cli.line.session import Line
from rpo_cli.line.work.base import reward_models
from rpo_cli.line.work.critique import style
from rpo_cli.store import Store
from rpo_cli.visuals.pages import Provenance, Training

METRICS, STARTED, DONE = "metrics.jsonl", "settings.json", "done.json"


def provenance(line: Line) -> Provenance:
    """As recorded in run.json; a model that was never used has no revision yet."""
    manifest, settings = line.store.read_manifest(), line.settings
    pinned = manifest.get("models", {})
    named = [
        ("generator", settings.generate.generator, settings.generate.revision),
        ("generator's LoRA", settings.generate.lora, None),
        ("generator's denoiser", settings.generate.denoiser, None),
        _critic(line),
        ("editor", settings.edit.editor, settings.edit.revision),
        *((f"reward {name}", ref, None) for name, ref in reward_models(line)),
        ("trained model", settings.train.model, None),
    ]
    values = settings.model_dump(mode="json")
    origins = line.resolved.origins
    return Provenance(
        rpo=manifest.get("rpo", ""),
        preset=line.resolved.preset,
        notes=(*line.resolved.notes, *_kept_out(manifest)),
        models=[(role, ref, pinned.get(pin_name(ref, asked), "–")) for role, ref, asked in named if ref],
        versions=manifest.get("versions", {}),
        settings=[
            (name, _json(values[section][key]), origin)
            for name, origin in sorted(origins.items())
            for section, key in [name.split(".")]
            if origin != "default"
        ],
        prompts=_prompts(line),
    )


def _kept_out(manifest: Mapping[str, Any]) -> list[str]:
    """The lists whose prompts the run was told to leave out, and how many of its source's were in them."""
    found = manifest.get("prompts", {}).get("kept_out", {})
    return [
        f"prompts of {name} are kept out ({count:,} rows of the source)" for name, count in found.items()
    ]


def _critic(line: Line) -> tuple[str, str | None, str | None]:
    """Of a served critic whose name the server told, what stands in for the name."""
    s = line.settings.critique
    told = s.backend == "openai" and "critique.critic_url" in line.store.read_manifest().get("models", {})
    return ("critic", "critique.critic_url" if told else s.critic, None if told else s.revision)


def _prompts(line: Line) -> list[tuple[str, str, str]]:
    """The critique's templates with their text; none when the style is gone."""
    try:
        found = templates.Templates.find(line.templates, style(line))
    except RpoError:
        return []
    turns = (found.single,) if line.settings.critique.single_turn else (found.critique, found.instructions)
    return [(turn.name, turn.sha256, turn.text) for turn in turns]


def trainings(store: Store) -> list[Training]:
    """Every training of the run that has numbers, finished ones and others, by name."""
    names = [name.split("/") for name in store.files.find("train", f"/{METRICS}")]
    return [_training(store, parts[1]) for parts in sorted(names) if len(parts) == 3]


def _training(store: Store, name: str) -> Training:
    settings = _identity(store, name)
    values: dict[tuple[str, str], list[tuple[float, float]]] = {}
    clock: list[float] = []
    for row in _rows(store.files.read(f"train/{name}/{METRICS}").decode("utf-8", "replace")):
        for measure, value in row.items():
            if measure not in ("split", "step") and isinstance(value, int | float):
                values.setdefault((str(row["split"]), measure), []).append((row["step"], float(value)))
        if row["split"] == "train":
            clock.append(_seconds(row, settings.get("global_batch")))
    said = {key: value if isinstance(value, str) else _json(value) for key, value in settings.items()}
    finished = store.files.exists(f"train/{name}/{DONE}")
    return Training(name, finished, said, values, len(clock), math.fsum(clock))


def _identity(store: Store, name: str) -> Mapping[str, Any]:
    """What makes a training itself, written when it begins; {} where nothing tells."""
    for file in (f"train/{name}/{STARTED}", f"train/{name}/{DONE}"):
        if store.files.exists(file):
            found = _object(store.files.read(file).decode("utf-8", "replace")).get("identity")
            if isinstance(found, dict):
                return found
    return {}


def _seconds(row: Mapping[str, Any], batch: object) -> float:
    """What a step took: told as such, or as the pace of its pairs; 0 where neither is."""
    told, pace = row.get("seconds"), row.get("pairs_per_second")
    if told is None and isinstance(batch, int) and isinstance(pace, int | float) and pace > 0:
        told = batch / pace
    return float(told) if isinstance(told, int | float) and 0 <= told < math.inf else 0.0


def _rows(text: str) -> list[dict[str, Any]]:
    """Whole lines that have a split and a step; a training that is killed may leave half a line."""
    rows = [_object(line) for line in text.splitlines()]
    return [row for row in rows if isinstance(row.get("step"), int | float) and "split" in row]


def _object(text: str) -> dict[str, Any]:
    """A JSON object; {} for anything else."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)

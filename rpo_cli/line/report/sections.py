"""Parts of a report beside the pairs: costs, reviews, evaluations, and where rows come from."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from PIL.Image import Image as Picture

from rpo_cli import templates
from rpo_cli.errors import CorruptImage, RpoError
from rpo_cli.identity import pin_name
from rpo_cli.line.evaluation.evaluate import FOLDER, NAME, PICTURES, RESULTS, read_json
from rpo_cli.line.evaluation.evaluate import FOLDER as EVALUATIONS
from rpo_cli.line.evaluation.labels import RESULTS as AUDITED
from rpo_cli.line.evaluation.measurements import AT
from rpo_cli.line.evaluation.models import BASE, LABEL
from rpo_cli.line.rates import rates
from rpo_cli.line.review.agreement import Share, summary_of
from rpo_cli.line.session import Line
from rpo_cli.line.steps import stages
from rpo_cli.line.work.critics import reward_models
from rpo_cli.line.work.critique import style
from rpo_cli.pictures import decode
from rpo_cli.records import Image
from rpo_cli.store import Store, open_store
from rpo_cli.visuals.contact_sheet import fitted
from rpo_cli.visuals.evaluated import Evaluation, Grid, Table, evaluation, labels
from rpo_cli.visuals.pages import Provenance, StageRow, Training


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
    tables = {spec.name: spec.table for spec in stages()}
    counts = {table: store.counts(table) for table in {tables[kind] for _, kind in kinds if kind in tables}}
    return {name: counts[tables[kind]].get(groups[name], 0) for name, kind in kinds if kind in tables}


def review_tables(store: Store) -> list[Table]:
    """Reviewers, their agreement with the labels by kind of pair, and with each other."""
    found = summary_of(store)
    if found is None:
        return []
    choices = ("side", "tie", "reject")
    people = [
        (
            who.name,
            f"{who.judged:,}",
            *(f"{who.choices.get(choice, 0):,}" for choice in choices),
            _share_text(who.consistent),
            _share_text(who.left),
        )
        for who in found.reviewers
    ]
    kinds = [
        (who.name, kind, f"{share.cases:,}", _share_text(share))
        for who in found.reviewers
        for kind, share in who.agreement.items()
    ]
    both = [
        (f"{two.first} and {two.second}", f"{two.pairs:,}", f"{two.same:.3f}", _share_text(two.kappa))
        for two in found.kappas
    ]
    heads = ("reviewer", "pairs", "a side", "tie", "no use", "same again, swapped", "left preferred")
    tables = [
        Table(
            "Verdicts of reviewers who saw the pairs blind; 95 % intervals in brackets", 1, heads, people
        ),
        Table("How often they prefer the label's side", 2, ("reviewer", "kind", "pairs", "share"), kinds),
        Table(
            "Two reviewers on the same pairs; kappa is 0 at chance, 1 at full agreement",
            1,
            ("reviewers", "pairs", "same verdict", "Cohen's kappa"),
            both,
        ),
    ]
    return [table for table in tables if table.rows]


def _share_text(share: Share | None) -> str:
    return (
        "–" if share is None else f"{share.value:.3f} [{share.low:.3f},\N{NO-BREAK SPACE}{share.high:.3f}]"
    )


PROMPTS, NOISES, MODELS = 6, 4, 5  # shown of one evaluation, at most
FOLDERS = re.compile(LABEL.pattern + rf"(?:{AT}[0-9.e+-]+)?", re.ASCII)
Place = tuple[str, str, int]  # model, prompt, index of the start noise


def evaluations(store: Store, put: Callable[[Picture], str]) -> list[Evaluation]:
    """Every finished evaluation of the run, by name.

    Args:
        put: writes a picture into the report and returns its file's name.
    """
    names = [name.split("/") for name in store.files.find(FOLDER, f"/{RESULTS}")]
    found = []
    for name in sorted(parts[1] for parts in names if len(parts) == 3 and NAME.fullmatch(parts[1])):
        results = read_json(store, f"{FOLDER}/{name}/{RESULTS}")
        shown = evaluation(name, results, _grids(store, name, _models(results), put))
        if shown is not None:
            found.append(shown)
    return [*found, *_labels(store)]


def _labels(store: Store) -> Iterator[Evaluation]:
    """What was found of the dataset's labels, by the evaluation's name."""
    names = [name.split("/") for name in store.files.find(FOLDER, f"/{AUDITED}")]
    for name in sorted(parts[1] for parts in names if len(parts) == 3 and NAME.fullmatch(parts[1])):
        shown = labels(name, read_json(store, f"{FOLDER}/{name}/{AUDITED}"))
        if shown is not None:
            yield shown


def _models(results: Mapping[str, Any]) -> list[str]:
    """The base and the first model of every setting; labels are folders' names, and data."""
    settings = results.get("settings")
    labels = [BASE]
    for setting in settings if isinstance(settings, list) else []:
        members = setting.get("members") if isinstance(setting, dict) else None
        labels += [str(label) for label in (members or [])[:1]]
    return [label for label in dict.fromkeys(labels) if FOLDERS.fullmatch(label)][:MODELS]


def _grids(store: Store, name: str, models: Sequence[str], put: Callable[[Picture], str]) -> list[Grid]:
    """A few prompts, picked by the hash of their text: neither the best nor the worst."""
    places = {place: key for place, key in _listed(store, name) if place[0] in models}
    prompts = sorted({prompt for _, prompt, _ in places}, key=_draw)[:PROMPTS]
    files: dict[Place, str] = {}
    for model in models:
        wanted = {key: place for place, key in places.items() if place[0] == model and place[1] in prompts}
        for key, picture in _pictures(store, name, model, set(wanted)):
            files[wanted[key]] = put(picture)
    noises = range(min(NOISES, max((index for _, _, index in places), default=-1) + 1))
    return [
        Grid(prompt, [(model, [files.get((model, prompt, n)) for n in noises]) for model in models])
        for prompt in prompts
    ]


def _draw(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _listed(store: Store, name: str) -> Iterator[tuple[Place, str]]:
    """(model, prompt, noise), image_id of every picture that the evaluation lists."""
    place = f"{FOLDER}/{name}/{PICTURES}"
    text = store.files.read(place).decode("utf-8", "replace") if store.files.exists(place) else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
            index = int(row["index"])
            if 0 <= index < NOISES:
                yield (str(row["model"]), str(row["prompt"]), index), str(row["image_id"])
        except (ValueError, KeyError, TypeError):
            continue  # half a line of a killed evaluation


def _pictures(store: Store, name: str, model: str, keys: set[str]) -> Iterator[tuple[str, Picture]]:
    try:
        nested = open_store(store.path(FOLDER, name, model))
        for row in nested.fetch("images", keys):
            assert isinstance(row, Image)
            try:
                yield row.image_id, fitted(decode(row.image.bytes))
            except CorruptImage:
                continue
    except RpoError:  # its pictures are gone; the figures stay
        return


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

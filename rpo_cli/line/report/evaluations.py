"""The evaluations of a run for its report: figures, and a few prompts' pictures of equal start noise."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PIL.Image import Image as Picture

from rpo_cli.errors import CorruptImage, RpoError
from rpo_cli.line.evaluation.evaluate import FOLDER, NAME, PICTURES, RESULTS, read_json
from rpo_cli.line.evaluation.guidances import AT
from rpo_cli.line.evaluation.labels import RESULTS as AUDITED
from rpo_cli.line.evaluation.models import BASE, LABEL
from rpo_cli.pictures import decode
from rpo_cli.records import Image
from rpo_cli.store import Store, open_store
from rpo_cli.visuals.contact_sheet import fitted
from rpo_cli.visuals.evaluated import Evaluation, Grid, evaluation, labels

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

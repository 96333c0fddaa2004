"""The numbers of one model's pictures, read from its nested run, at one guidance or several."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from rpo_cli.errors import CorruptImage, UsageError
from rpo_cli.exchange.raw_rows import json_line
from rpo_cli.line.evaluation.models import BASE, Contender, Setting
from rpo_cli.line.session import Line
from rpo_cli.line.work.critics import reward_models
from rpo_cli.line.work.generate import live_images, live_prompts
from rpo_cli.line.work.score import score_works
from rpo_cli.metrics.comparison import Measured, with_right
from rpo_cli.metrics.looks import Look, diversity, drift, look
from rpo_cli.pictures import decode, perceptual_hash, to_array
from rpo_cli.records import Image

AT = "@"  # of no label that a user may give


def checked_guidances(asked: Sequence[float], own: float | None) -> tuple[float | None, ...]:
    """The guidances to sample at, in order and once each; the run's own where none is asked for.

    Raises:
        UsageError: a negative or infinite one, or what is no number.
    """
    for guidance in asked:
        if not math.isfinite(guidance) or guidance < 0:
            raise UsageError(
                f"--guidance {guidance:g}: a guidance is a finite number, 0 or more", "--guidance 1.5"
            )
    return tuple(dict.fromkeys(asked)) or (own,)


def at_guidances(
    models: Sequence[Contender],
    settings: Sequence[Setting],
    guidances: Sequence[float | None],
    own: float | None,
) -> tuple[list[Contender], list[Setting]]:
    """Base and models at each guidance, and the lines of the table: the base first, at every guidance.

    What is sampled at `own`, the run's guidance, keeps its label (and so its pictures of an evaluation that
    named none); LABEL@2 is sampled at 2. The base at the first guidance has nothing beside it, at any other
    the base at the first.
    """
    every: list[Contender] = []
    table: list[Setting] = []
    for guidance in guidances:
        named = {BASE: _label(BASE, guidance, own)} | {
            m.label: _label(m.label, guidance, own) for m in models
        }
        options = {} if guidance is None else {"generate.guidance": guidance}
        base, first = named[BASE], table[0].label if table else None
        every.append(Contender(base, {**options}))
        every += [replace(m, label=named[m.label], options={**m.options, **options}) for m in models]
        table.append(Setting(base, (base,), beside=first, guidance=guidance))
        for setting in settings:
            members = tuple(named[member] for member in setting.members)
            table.append(Setting(_label(setting.label, guidance, own), members, base, guidance))
    return every, table


def is_base(setting: Setting) -> bool:
    """Whether a line of the table is the base itself, at some guidance."""
    return setting.label.partition(AT)[0] == BASE


def _label(label: str, guidance: float | None, own: float | None) -> str:
    return label if guidance == own else f"{label}{AT}{str(guidance).removesuffix('.0')}"


Array = NDArray[np.float64]
Measure = Callable[[Picture, str], Mapping[str, bool]]
Looks = list[list[Look | None]]


@dataclass(frozen=True)
class Sheet:
    """What one model's pictures measure, with what is needed to compare another's to them."""

    prompts: list[tuple[str, str]]
    ids: dict[tuple[int, int], str]
    measured: Measured
    looks: Looks


def without_looks(sheet: Sheet) -> Sheet:
    """The numbers alone: thumbnails are the large part."""
    return replace(sheet, looks=[])


def sheet(line: Line, base: Sheet | None, *, seeds: int, measure: Measure | None) -> Sheet:
    """Scores, readings and distances of the pictures of a nested run.

    Args:
        base: the base's sheet, to tell the drift from it; None for the base itself.
        seeds: pictures per prompt.
        measure: picture and prompt → attribute → right.
    """
    prompts = list(live_prompts(line))
    rows = {prompt_id: row for row, (prompt_id, _) in enumerate(prompts)}
    places = {
        image["image_id"]: (rows[image["prompt_id"]], image["index"])
        for image in live_images(line)
        if image["prompt_id"] in rows and image["index"] < seeds
    }
    shape = (len(prompts), seeds)
    looks: Looks = [[None] * seeds for _ in prompts]
    readings: dict[str, Array] = {}
    line.observer.start("look", len(places), 0)
    for key, picture in _pictures(line, set(places)):
        row, index = places[key]
        looks[row][index] = look(picture, perceptual_hash(to_array(picture)))
        for name, right in (measure(picture, prompts[row][1]) if measure else {}).items():
            readings.setdefault(name, np.full(shape, np.nan))[row, index] = float(right)
        line.observer.advance(1, 0)
    line.observer.finish()
    measured = Measured(
        scores=_scores(line, rows, shape),
        readings=with_right(readings),
        diversity=diversity(looks),
        drift={} if base is None else drift(looks, base.looks),
    )
    return Sheet(prompts, {place: key for key, place in places.items()}, measured, looks)


def _pictures(line: Line, keys: set[str]) -> Iterator[tuple[str, Picture]]:
    """Whole pictures by key; one that does not decode is left out, as it is everywhere."""
    for row in line.store.fetch("images", keys):
        assert isinstance(row, Image)
        try:
            yield row.image_id, decode(row.image.bytes)
        except CorruptImage:
            continue


def _scores(line: Line, rows: Mapping[str, int], shape: tuple[int, int]) -> dict[str, Array]:
    """Reward → (P, S), nan where a picture has no score."""
    wanted = {key for work in score_works(line) for key in work.keys}
    columns = ["score_id", "prompt_id", "subject_sha256", "reward", "score"]
    found = {
        (row["reward"], row["prompt_id"], row["subject_sha256"]): row["score"]
        for row in line.store.columns("rewards", columns).to_pylist()
        if row["score_id"] in wanted
    }
    tables = {name: np.full(shape, np.nan) for name, _ in reward_models(line)}
    for image in live_images(line):
        if image["prompt_id"] in rows and image["index"] < shape[1]:
            place = (rows[image["prompt_id"]], image["index"])
            for name, table in tables.items():
                table[place] = found.get((name, image["prompt_id"], image["sha256"]), np.nan)
    return tables


def picture_lines(label: str, sheet: Sheet) -> str:
    """One JSON object a line: model, prompt, index, picture, and every number of it."""
    lines = []
    for (row, index), key in sorted(sheet.ids.items()):
        told: dict[str, Any] = {"model": label, "prompt": sheet.prompts[row][1], "index": index}
        told |= {"image_id": key, "scores": _at(sheet.measured.scores, row, index)}
        told |= {"drift": _at(sheet.measured.drift, row, index)}
        told |= {"right": {k: bool(v) for k, v in _at(sheet.measured.readings, row, index).items()}}
        lines.append(json_line(told))
    return "".join(lines)


def _at(tables: Mapping[str, Array], row: int, index: int) -> dict[str, float]:
    found = {name: float(table[row, index]) for name, table in tables.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}

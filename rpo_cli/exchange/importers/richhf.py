"""RichHF-18K: what people said about pictures of Pick-a-Pic v1, which come from elsewhere.

All scores are higher = better. In `prompt_misalignment_label` 0 is a word that the picture does not match
and 1 one that it does (the polarity of the authors' own reader; public scripts have it both ways). Words
are what stands between the characters of DELIMITERS, not between spaces.

Source: Liang et al. 2023, arXiv:2312.10240; https://github.com/google-research-datasets/richhf-18k
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from rpo_cli.errors import CorruptImage, UsageError
from rpo_cli.exchange.importers.parquet import columns_of, rows_of
from rpo_cli.exchange.importers.tfrecord import Value, example, records
from rpo_cli.exchange.incoming import (
    PICTURES,
    Entry,
    Feedback,
    Options,
    Picture,
    Source,
    encoded,
    entries,
    inside,
    load,
    ordered,
    prompt_of,
    refuse,
)
from rpo_cli.exchange.places import Place
from rpo_cli.exchange.raw_rows import BadRow
from rpo_cli.pictures import decode, to_array
from rpo_cli.records import Flaw

DELIMITERS = ',.?!":; '
SCORES = ("aesthetics_score", "artifact_score", "misalignment_score", "overall_score")
NAMES = ("filename", *SCORES, "prompt_misalignment_label")
HINT = "check the folder, or name another --format; see `rpo list importers`"
UIDS = ("image_0_uid", "image_1_uid")


@dataclass(frozen=True)
class _Label:
    """One record, or why it is none."""

    number: int
    stem: str
    scores: dict[str, float]
    aligned: tuple[int, ...]
    marks: str
    bad: BadRow | None = None


@dataclass(frozen=True)
class _Found:
    """A labelled picture in the Parquet files of Pick-a-Pic: its row and side."""

    row: int
    side: int
    label: _Label


def open_richhf(path: Place, options: Options) -> Source | None:
    """RichHF-18K: TFRecords of scores, misaligned words and heat maps; --images names Pick-a-Pic v1.

    Source: Liang et al. 2023, arXiv:2312.10240; https://github.com/google-research-datasets/richhf-18k
    """
    files = [path] if path.is_file() else ordered(path.rglob(f"{options.split or 'train'}*.tfrecord"))
    files = [file for file in files if file.suffix == ".tfrecord"]
    if not files:
        if options.asked:
            raise refuse(path, f"no {options.split or 'train'}*.tfrecord", "others", HINT)
        return None
    if options.images is None:
        raise UsageError(
            f"{path}: RichHF-18K holds labels only, no pictures",
            "pass --images FOLDER: Pick-a-Pic v1's Parquet files, or pictures with a .txt prompt each",
        )
    labels = [
        _label(number, data) for number, data in enumerate(d for file in files for d in records(file))
    ]
    _check(files[0], labels)
    parquet = ordered(options.images.rglob("*.parquet"))  # of every split: labels name pictures of any
    make = _from_parquet if parquet else _from_folder
    return Source(
        root=path if path.is_dir() else path.parent,
        files=(*files, *parquet),
        judged_by="human",
        read=lambda start: make(labels, parquet, options.images, start),
        rows=len(labels),
    )


def _label(number: int, data: bytes) -> _Label:
    try:
        found = example(data)
        missing = [name for name in NAMES if not found.get(name)]
        if missing:
            raise BadRow("missing_column", f"record {number}: no {', '.join(missing)}")
        name = _text(found["filename"])
        label = _text(found["prompt_misalignment_label"]).split()
        if not set(label) <= {"0", "1"}:
            raise BadRow("bad_label", f"record {number}: word labels {' '.join(label)[:80]!r}")
        scores = {name: float(found[name][0]) for name in SCORES}
        marks = _where(found.get("artifact_map"))
        return _Label(number, PurePosixPath(name).stem, scores, tuple(map(int, label)), marks)
    except ValueError as error:
        return _Label(number, "", {}, (), "", BadRow("bad_record", f"record {number}: {error}"))
    except BadRow as bad:
        return _Label(number, "", {}, (), "", bad)


def _text(value: Value) -> str:
    first = value[0]
    if not isinstance(first, bytes):
        raise ValueError("a number where text is expected")
    return first.decode("utf-8", "replace")


def _check(file: Place, labels: list[_Label]) -> None:
    bad = [label.bad for label in labels[:20] if label.bad]
    if labels and len(bad) == len(labels[:20]):
        raise UsageError(f"{file}: {bad[0].detail}", "RichHF-18K has " + ", ".join(NAMES))


def _where(heat: Value | None) -> str:
    """Where people marked artefacts, in words; "" for an empty map."""
    if not heat or not isinstance(heat[0], bytes):
        return ""
    try:
        values = to_array(decode(heat[0], "heat map"))[:, :, 0].astype(np.float64)
    except CorruptImage:
        return ""
    if values.max() < 1:
        return ""
    marked = values >= values.max() / 2
    rows, columns = np.nonzero(marked)
    third = [
        int(3 * place.mean() / size) for place, size in zip((rows, columns), values.shape, strict=True)
    ]
    vertical, horizontal = ("upper", "middle", "lower")[third[0]], ("left", "centre", "right")[third[1]]
    return f"{vertical} {horizontal}, {100 * marked.mean():.0f} % of the picture"


def words(prompt: str) -> list[str]:
    """The words that RichHF's labels count."""
    return [word for word in re.split(f"[{re.escape(DELIMITERS)}]", prompt) if word]


def feedback(label: Any, prompt: str) -> Feedback:
    """One record as a critique: scores as text, runs of misaligned words and marked artefacts as flaws.

    Raises:
        BadRow: another number of labels than the prompt has words.
    """
    said = words(prompt)
    if len(said) != len(label.aligned):
        detail = f"record {label.number}: {len(label.aligned)} labels, the prompt has {len(said)} words"
        raise BadRow("bad_label", detail)
    runs = [
        " ".join(word for word, _ in run)
        for aligned, run in groupby(zip(said, label.aligned, strict=True), key=lambda pair: pair[1])
        if not aligned
    ]
    flaws = [Flaw(aspect="alignment", detail=f"does not match '{run}'"[:500]) for run in runs]
    flaws += [Flaw(aspect="artefacts", detail=label.marks)] if label.marks else []
    scores = ", ".join(f"{name.removesuffix('_score')} {label.scores[name]:.2f}" for name in SCORES)
    text = f"People's scores from 0 to 1, higher is better: {scores}."
    text += f" Not matched: {'; '.join(runs)}." if runs else " Every word of the prompt is matched."
    text += f" Artefacts: {label.marks}." if label.marks else ""
    return Feedback(text, tuple(flaws))


def _from_folder(
    labels: list[_Label], parquet: list[Place], images: Place | None, start: int
) -> Iterator[Any]:
    """Pictures by the stem of their file name, each with its prompt in a .txt of that name."""

    def one(row: int, label: _Label) -> Entry:
        if label.bad:
            raise label.bad
        assert images is not None
        prompt = prompt_of(load(inside(images, f"{label.stem}.txt")).decode("utf-8", "replace"))
        return Entry(
            row, prompt, (Picture(_picture(images, label.stem), label.stem, None, feedback(label, prompt)),)
        )

    return entries(islice(enumerate(labels), start, None), one)


def _picture(images: Place, stem: str) -> bytes:
    for ending in PICTURES:
        try:
            return load(inside(images, stem + ending))
        except BadRow as bad:
            if bad.reason != "missing_image":
                raise
    raise BadRow("missing_image", f"{stem[:200]!r}: no picture of this name in --images")


def _from_parquet(
    labels: list[_Label], parquet: list[Place], images: Place | None, start: int
) -> Iterator[Any]:
    """Pictures by their uid in Pick-a-Pic, in its order; labels without a picture come last."""
    found = _look_up({label.stem: label for label in labels if not label.bad}, parquet)
    seen = {place.label.number for place in found}
    lost = [label for label in labels if label.number not in seen]
    yield from entries(_rows(found, parquet, start), _entry)
    rest = islice(enumerate(lost, len(found)), max(0, start - len(found)), None)
    yield from entries(((row, label.bad or _gone(label)) for row, label in rest), _entry)


def _gone(label: _Label) -> BadRow:
    return BadRow("missing_image", f"record {label.number}: no picture {label.stem[:100]!r} in --images")


def _look_up(labels: dict[str, _Label], parquet: list[Place]) -> list[_Found]:
    urls = [name for name in ("image_0_url", "image_1_url") if name in columns_of(parquet)]
    found: dict[str, _Found] = {}
    for row, raw in rows_of(parquet, [*UIDS, *urls]):
        for side in (0, 1):
            for name in (f"image_{side}_uid", f"image_{side}_url"):
                stem = PurePosixPath(str(raw.get(name) or "")).stem
                if stem in labels and stem not in found:
                    found[stem] = _Found(row, side, labels[stem])
    return sorted(found.values(), key=lambda place: (place.row, place.side))


def _rows(found: list[_Found], parquet: list[Place], start: int) -> Iterator[tuple[int, Any]]:
    """(place in `found`, (label, side, row)) for the places from `start` on."""
    by_row: dict[int, list[tuple[int, _Found]]] = {}
    for number, place in enumerate(found):
        if number >= start:
            by_row.setdefault(place.row, []).append((number, place))
    columns = [
        name for name in ("caption", "jpg_0", "jpg_1", "model_0", "model_1") if name in columns_of(parquet)
    ]
    for row, raw in rows_of(parquet, columns, min(by_row, default=0), by_row.keys()):
        yield from ((number, (place, raw)) for number, place in by_row[row])


def _entry(row: int, joined: tuple[_Found, dict[str, Any]]) -> Entry:
    place, raw = joined
    prompt, side = prompt_of(raw["caption"]), place.side
    data, model = encoded(raw[f"jpg_{side}"], f"jpg_{side}"), raw.get(f"model_{side}")
    return Entry(row, prompt, (Picture(data, place.label.stem, model, feedback(place.label, prompt)),))

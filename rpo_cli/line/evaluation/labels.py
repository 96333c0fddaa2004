"""eval --judge-labels: what the labels of RUN/dataset are worth, from its rows, pictures and verdicts.

Label agreement and noise by margin run over all pairs; what looks at pictures (a measure, how far they
moved, the shortcut probes) over a bounded choice by hash. Written to RUN/eval/<name>/dataset.json.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL.Image import Image as Picture

from rpo_cli import registry
from rpo_cli.errors import CorruptImage, UsageError
from rpo_cli.exchange.dataset import ranking_id
from rpo_cli.files import reading
from rpo_cli.line.evaluation.evaluate import FOLDER, Evaluation, checked_name, measure_key, read_json
from rpo_cli.line.evaluation.models import dataset_files
from rpo_cli.line.session import Line
from rpo_cli.metrics.labels import (
    FEATURES,
    Labelled,
    agreement,
    beside,
    features,
    moves,
    noise_by_margin,
    preferred,
    probe,
    right_share,
)
from rpo_cli.metrics.looks import DISTANCES, MEASURED_BY, look
from rpo_cli.pictures import decode, perceptual_hash, to_array
from rpo_cli.records import content_key
from rpo_cli.stages.verdicts import VERDICT_COLUMNS, consensus, opinion_on
from rpo_cli.store import Store
from rpo_cli.text import normalised

RESULTS = "dataset.json"
FIGURES = 3
LOOKED_AT = 5_000  # pairs whose pictures are looked at, unless told otherwise
ROWS = 64  # of one read: pictures of that many pairs are in memory
LIGHT = (
    *("caption", "label_0", "pair_kind", "edited", "reversed", "margin"),
    *("rewards_0", "rewards_1", "flaws_0", "flaws_1", "image_0_uid", "image_1_uid", "ranking_id"),
)
PIXELS = ("jpg_0", "jpg_1")
PAIR = ("pair_id", "prompt_id", "a_id", "b_id", "a_sha256", "b_sha256")
CRITIC, PEOPLE = "critic", "people"
Opinions = Mapping[int, str]
Measure = Callable[[Picture, str], Mapping[str, bool]]
Array = NDArray[np.float64]


@dataclass
class _Classes:
    """Pictures for one probe: their features, class and prompt."""

    table: list[Array] = field(default_factory=list)
    labels: list[bool] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)

    def add(self, seen: Array, label: bool, prompt: str) -> None:
        self.table.append(seen)
        self.labels.append(label)
        self.prompts.append(prompt)

    def result(self) -> dict[str, Any] | None:
        return probe(np.stack(self.table), self.labels, self.prompts) if self.table else None


def audit(
    line: Line, *, name: str = "default", measure: str | None = None, limit: int | None = None
) -> Evaluation:
    """Judge the labels of the run's dataset; loads no model.

    Args:
        measure: a name of the registry's `measures`, which must know the captions.
        limit: pairs whose pictures are looked at, at most; None: 5,000.

    Raises:
        UsageError: no dataset yet, or captions that the measure does not know.
    """
    checked_name(name)
    files = dataset_files(line.store)
    if not files:
        raise UsageError(f"{line.store.url}: no dataset yet", f"rpo build-pairs {line.store.url}")
    place = f"{FOLDER}/{name}/{RESULTS}"
    path = str(line.store.path(FOLDER, name, RESULTS))
    people = opinions(line.store)
    # a data file is named by its content
    fingerprint = content_key(
        "audit", FIGURES, [file.name for file in files], measure_key(measure), limit, sorted(people.items())
    )
    known = read_json(line.store, place)
    if known.get("fingerprint") == fingerprint:
        return Evaluation(path, known, skipped=True)
    results = {"fingerprint": fingerprint, "files": [file.name for file in files]}
    results |= _audited(line, people, measure, limit or LOOKED_AT)
    with line.store.lock(f"eval-{name}"):
        text = json.dumps(results, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        line.store.files.write(place, text.encode())
    return Evaluation(path, results)


def probes(line: Line, name: str) -> dict[str, Any] | None:
    """What an audit of this name has found of shortcuts in the dataset as it is now; None: nothing yet."""
    known = read_json(line.store, f"{FOLDER}/{name}/{RESULTS}")
    files = [file.name for file in dataset_files(line.store)]
    found = known.get("probe")
    return found if files and known.get("files") == files and isinstance(found, dict) else None


def opinions(store: Store) -> Opinions:
    """Judged pairs by ranking_id: the id of the picture that most reviewers prefer, "" for none."""
    said = consensus(store.columns("verdicts", VERDICT_COLUMNS).to_pylist())
    if not said:
        return {}
    found = {}
    for row in store.columns("pairs", PAIR).to_pylist():
        side = opinion_on(said, row["prompt_id"], row["a_sha256"], row["b_sha256"])
        if side is not None:
            found[ranking_id(row["pair_id"])] = row[f"{side}_id"] if side in ("a", "b") else ""
    return found


def _audited(line: Line, people: Opinions, measure: str | None, limit: int) -> dict[str, Any]:
    judge = registry.load("measures", measure) if measure else None
    keys = sorted(_order(row) for row in _rows(line, LIGHT))
    last = keys[min(limit, len(keys)) - 1]
    edited, won = _Classes(), _Classes()
    pairs = []
    line.observer.start("look", min(limit, len(keys)), 0)
    for row in _rows(line, (*LIGHT, *PIXELS)):
        seen = _seen(row) if _order(row) <= last else None
        pairs.append(_labelled(row, seen, people, judge, measure or ""))
        if seen is not None:
            _class(row, seen, edited, won)
            line.observer.advance(1, 0)
    line.observer.finish()
    return {
        "pairs": len(pairs),
        "looked_at": sum(bool(pair.moved) for pair in pairs),
        "measure": measure,
        "distances": DISTANCES,
        "agreement": agreement(pairs),
        "beside_people": beside(pairs, PEOPLE),
        "noise_by_margin": noise_by_margin(pairs),
        "moves": moves(pairs),
        "probe": {"features": FEATURES, "edited": edited.result(), "winner": won.result()},
    }


def _rows(line: Line, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for path in dataset_files(line.store):
        with reading(str(path)):
            file = pq.ParquetFile(path)
            for batch in file.iter_batches(batch_size=ROWS, columns=list(columns), use_threads=False):
                yield from batch.to_pylist()


def _order(row: Mapping[str, Any]) -> str:
    """Which pairs are looked at: by a hash that knows neither margin nor order."""
    text = f"{row['image_0_uid']} {row['image_1_uid']} {row['caption']}"
    return hashlib.sha256(text.encode()).hexdigest()


def _seen(row: Mapping[str, Any]) -> tuple[Picture, Picture] | None:
    """Winner and loser; None where a picture cannot be read."""
    try:
        first, second = (decode(row[name], row["caption"]) for name in PIXELS)
    except CorruptImage:
        return None
    return (first, second) if row["label_0"] > 0.5 else (second, first)


def _labelled(
    row: Mapping[str, Any],
    seen: tuple[Picture, Picture] | None,
    people: Opinions,
    judge: Measure | None,
    name: str,
) -> Labelled:
    winner, loser = (0, 1) if row["label_0"] > 0.5 else (1, 0)
    # a dataset of imported pairs that no reward has scored lacks the columns
    judges = preferred(row.get(f"rewards_{winner}"), row.get(f"rewards_{loser}"))
    flaws = [row[f"flaws_{side}"] for side in (winner, loser)]
    if all(found is not None for found in flaws):
        judges[CRITIC] = float(len(flaws[1]) - len(flaws[0]))
    if (choice := people.get(row["ranking_id"])) is not None:
        leads = {row[f"image_{winner}_uid"]: 1.0, row[f"image_{loser}_uid"]: -1.0}
        judges[PEOPLE] = leads.get(choice, 0.0)
    moved = {}
    if seen is not None:
        looks = [look(picture, perceptual_hash(to_array(picture))) for picture in seen]
        moved = {key: distance(looks[0], looks[1]) for key, distance in MEASURED_BY.items()}
        if judge is not None:
            shares = [right_share(judge(picture, row["caption"])) for picture in seen]
            judges[name] = shares[0] - shares[1]
    kind = "reversed edit" if row["reversed"] else row["pair_kind"]
    return Labelled(normalised(row["caption"]), kind, row["margin"], judges, moved)


def _class(row: Mapping[str, Any], seen: tuple[Picture, Picture], edited: _Classes, won: _Classes) -> None:
    """The pictures of a pair as examples: edited or not (edit pairs only), winner or loser."""
    prompt, winner = normalised(row["caption"]), 0 if row["label_0"] > 0.5 else 1
    for picture, is_winner in zip(seen, (True, False), strict=True):
        found = features(picture)
        won.add(found, is_winner, prompt)
        if row["edited"] is not None:
            edited.add(found, (row["edited"] == winner) == is_winner, prompt)

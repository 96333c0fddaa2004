"""What a rebuilt dataset takes from those that stood on the one before: said with numbers, never asked."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.compute as pc

from rpo_cli.keysets import Keys, digests
from rpo_cli.line.evaluation.models import evaluated, finished, trained_on
from rpo_cli.line.evaluation.prompts import IN_PASSING, dataset_files
from rpo_cli.line.session import Line
from rpo_cli.stages.split import split_of
from rpo_cli.train.data.pairs import is_of_dataset


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

    pairs: "Accepted"
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
    rows = rows.filter(pc.equal(rows["verdict"], "accepted"))
    won = [rows.filter(pc.equal(rows["winner"], side))["pair_id"] for side in ("a", "b")]
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

"""The prompts of an evaluation: those that the run has kept from training, or others of the user's."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from rpo_cli.config import PromptSettings
from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import built
from rpo_cli.exchange.json_text import json_line
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.session import Line
from rpo_cli.line.work.prompts import live_prompts
from rpo_cli.records import content_key
from rpo_cli.stages.split import split_of
from rpo_cli.store import Store
from rpo_cli.text import normalised


@dataclass(frozen=True)
class Prompts:
    """Texts in order of their id, where they are from, and how many of them the run has trained on."""

    texts: tuple[str, ...]
    source: str
    trained_on: int = 0


def held_out_prompts(line: Line, limit: int | None = None) -> Prompts:
    """The run's prompts of the validation split and its dataset's, less any that training has seen.

    Raises:
        UsageError: there are none.
    """
    fraction = line.settings.pairs.val_fraction
    texts = {text for _, text in live_prompts(line) if split_of(text, fraction) == "validation"}
    texts |= set(dataset_captions(line.store, "validation"))
    seen = training_prompts(line)
    kept = sorted((text for text in texts if normalised(text) not in seen), key=_order)
    if not kept:
        raise UsageError(
            f"{line.store.url}: no held-out prompts (val_fraction {fraction:g})",
            "pass --prompts FILE with prompts that the run has not trained on",
        )
    return Prompts(tuple(kept[:limit]), "held-out prompts of the run")


def given_prompts(
    line: Line, file: Path, column: str | None, limit: int | None, *, allow_seen: bool
) -> Prompts:
    """The prompts of a file.

    Raises:
        UsageError: no such file, no prompts in it, or prompts of the run's training among them, unless
            `allow_seen`.
    """
    found = read_prompts(PromptSettings(file=str(file), column=column, limit=limit))
    for text in found.said():
        line.say(text)
    texts = sorted((prompt.prompt for prompt in found.prompts), key=_order)
    seen = training_prompts(line)
    overlap = [text for text in texts if normalised(text) in seen]
    if overlap and not allow_seen:
        raise UsageError(
            f"{file}: {len(overlap):,} of {len(texts):,} prompts were trained on, e.g. '{overlap[0][:80]}'",
            "take them out, or say --allow-training-prompts; such figures say nothing about new prompts",
        )
    return Prompts(tuple(texts), file.name, len(overlap))


def _order(text: str) -> str:
    return content_key("prompt", text)


def training_prompts(line: Line) -> set[str]:
    """Normalised prompts of the run that are not held out, earlier lists of it too, and its dataset's."""
    fraction = line.settings.pairs.val_fraction
    listed = line.store.columns("prompts", ["prompt"])["prompt"].to_pylist()
    own = {normalised(text) for text in listed if split_of(text, fraction) == "train"}
    return own | {normalised(text) for text in dataset_captions(line.store, "train")}


def dataset_captions(store: Store, split: str) -> Iterator[str]:
    """Captions of one split of RUN/dataset; none where there is no local dataset."""
    for file in dataset_files(store):
        if file.name.startswith(f"{split}-"):
            yield from pq.read_table(file, columns=["caption"])["caption"].to_pylist()


IN_PASSING = 500_000_000  # bytes of a dataset that are hashed in passing, at most


def dataset_files(store: Store) -> list[Path]:
    """The data files that the dataset's card names, in order."""
    if store.files.local is None or not store.files.exists("dataset/README.md"):
        return []
    card = store.path("dataset", "README.md").read_text(encoding="utf-8")
    return [store.path("dataset", name) for name in sorted(built(card)[1])]


def prompt_lines(prompts: Prompts) -> bytes:
    """The prompts as JSON lines, which keep what is inside a text."""
    return "".join(json_line({"prompt": text}) for text in prompts.texts).encode()

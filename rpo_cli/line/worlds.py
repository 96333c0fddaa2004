"""The world that a model knows: embedded models learned a closed one, and what is said before work begins.

A model is known by the hashes of its weights, of which `shapes/manifest.json` is the table. What was tuned
from an embedded model draws its base's world; any other model has none.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.hashes import file_hashes
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.imports.sources import generates, import_groups
from rpo_cli.line.session import Line

TABLES = {"shapes": Path(__file__).parent.parent / "shapes" / "manifest.json"}  # world → its weights
LOADED = ("folder", "file", "hub")
HINT = "name models that fit each other, or pass --mix if that is meant"


@cache
def known_weights() -> dict[str, str]:
    """SHA-256 of a weight file → the world of its model."""
    return {
        entry["sha256"]: world
        for world, table in TABLES.items()
        for entry in json.loads(table.read_text(encoding="utf-8")).values()
    }


@cache
def world_of(model: ModelIdentity) -> str | None:
    """The world of a model; None for all that are not embedded."""
    if model.kind != "folder":
        return None
    with file_hashes() as hashes:
        found = (
            known_weights().get(hashes.of(path)) for path in sorted(Path(model.ref).rglob("*.safetensors"))
        )
        return next((world for world in found if world is not None), None)


def check_worlds(
    line: Line, role: str, models: Sequence[ModelIdentity], drawn: Sequence[ModelIdentity]
) -> None:
    """Refuse judges and editors of one world beside pictures of another, unless `run.mix` allows it.

    Args:
        role: the setting that names `models`.
        drawn: the generator and its adapters.

    Raises:
        UsageError: names both.
    """
    told = [model for model in models if model.kind in LOADED]  # of others nothing is known
    if line.settings.run.mix or not told:
        return
    world = _world(told)
    if import_groups(line) and world is not None:
        line.say(
            f"{role}: {told[0].ref} learned a closed world ({world}), and imported pictures are of another"
        )
    if generates(line):
        refuse_worlds(line, role, models, drawn)


def refuse_worlds(
    line: Line, role: str, models: Sequence[ModelIdentity], drawn: Sequence[ModelIdentity]
) -> None:
    """The same where pictures are drawn for certain.

    Raises:
        UsageError: names both.
    """
    told = [model for model in models if model.kind in LOADED]
    if line.settings.run.mix or not told:
        return
    world, drawing = _world(told), _world(drawn)
    if world != drawing:
        raise UsageError(f"{role}: {''.join(_clash(told[0], world, drawn[0], drawing))}", HINT)


def _world(models: Sequence[ModelIdentity]) -> str | None:
    return next((world for world in map(world_of, models) if world is not None), None)


def _clash(
    judge: ModelIdentity, known: str | None, drawer: ModelIdentity, drawn: str | None
) -> Iterator[str]:
    if known is not None:
        yield f"{judge.ref} is an embedded model that knows the world of {known} only"
        yield f", and {drawer.ref} draws another"
    else:
        yield f"{drawer.ref} draws the closed world of {drawn}, which {judge.ref} has not learned"


FEW_PAIRS = 50
MANY_USES = 20
TOLD = 8  # words
WORD = re.compile(r"[a-z]+|[^a-z\s]+")


def warn_of_words(line: Line, model: ModelIdentity, prompts: Iterable[str]) -> None:
    """Say which words of the prompts an embedded generator has never learned; nothing of other models."""
    known = _vocabulary(model.ref) if world_of(model) is not None else None
    if known is None:
        return
    strange = [
        [word for word in WORD.findall(text.lower()) if f"{word}</w>" not in known] for text in prompts
    ]
    words = list(dict.fromkeys(word for found in strange for word in found))
    if words:
        more = f" and {len(words) - TOLD:,} more" if len(words) > TOLD else ""
        line.say(
            f"{sum(map(bool, strange)):,} of {len(strange):,} prompts have words that {model.ref} does not "
            f"know, a model of a closed world: {', '.join(words[:TOLD])}{more}"
        )


@cache
def _vocabulary(model: str) -> frozenset[str] | None:
    """Tokens of the model's own tokenizer, in which each word that it has learned is one."""
    try:
        found = json.loads(Path(model, "tokenizer", "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return frozenset(found["model"]["vocab"])


def warn_of_pairs(line: Line, settings: TrainSettings, pairs: int | None) -> None:
    """Say that a training has few pairs, or sees each of them many times."""
    for text in _few(settings, pairs or 0):
        line.say(text)


def _few(settings: TrainSettings, pairs: int) -> Iterator[str]:
    if not pairs > 0:
        return
    if pairs < FEW_PAIRS:
        yield f"training on {pairs:,} pairs: fewer than {FEW_PAIRS} teach these pairs, not a preference"
    uses = settings.steps * settings.global_batch / pairs
    if uses > MANY_USES:
        yield (
            f"each pair is used {uses:.0f} times ({settings.steps:,} steps of {settings.global_batch:,} on "
            f"{pairs:,} pairs): more than {MANY_USES} overfit; fewer --steps, or more pairs"
        )

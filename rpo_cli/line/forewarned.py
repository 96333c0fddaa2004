"""What is said before work begins: prompts of words that a model never learned, trainings on few pairs."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from rpo_cli.config import TrainSettings
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.session import Line
from rpo_cli.line.worlds import world_of

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

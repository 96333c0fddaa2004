"""Texts longer than a text encoder reads: the picture lacks their end, which critic and rewards see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SHOWN = 3  # texts that are named
SHOWN_LETTERS = 40


@dataclass(frozen=True)
class Cut:
    """What a backend made of a text whose end it did not read: tokenizer → tokens beyond, each > 0."""

    output: Any
    over: Mapping[str, int]


def with_cuts(backend: Any, texts: Sequence[Sequence[str]], outputs: Sequence[Any]) -> list[Any]:
    """The outputs, wrapped where one of an output's texts was longer than a text encoder reads.

    Of several texts (a chain of edits) the most of each tokenizer counts. A backend that knows its limits
    has `tokens_over`, see `protocols.Generator`.
    """
    if not hasattr(backend, "tokens_over"):
        return list(outputs)
    told = iter(backend.tokens_over([text for own in texts for text in own]))
    overs: list[dict[str, int]] = []
    for own in texts:
        most: dict[str, int] = {}
        for found in (next(told) for _ in own):
            most |= {name: max(count, most.get(name, 0)) for name, count in found.items()}
        overs.append(most)
    return [Cut(output, over) if over else output for output, over in zip(outputs, overs, strict=True)]


def uncut(output: Any) -> "tuple[Any, dict[str, float] | None]":
    """The output as it was made, and tokenizer → tokens beyond; None: all was read, or it is not known."""
    return (output.output, {**output.over}) if isinstance(output, Cut) else (output, None)


def cut_note(stage: str, what: str, texts: Mapping[str, Mapping[str, float] | None]) -> str | None:
    """How many texts of a stage are longer than a text encoder reads, and the first of them; None of none.

    Args:
        what: the word for several of them. texts: text → tokens beyond, by tokenizer.
    """
    cut = {text: over for text, over in texts.items() if over}
    if not cut:
        return None
    names = sorted({name for over in cut.values() for name in over})
    each = "; ".join(
        f"{name}: {sum(name in over for over in cut.values()):,}, by up to "
        f"{max(over.get(name, 0) for over in cut.values()):,.0f} tokens"
        for name in names
    )
    first = ", ".join(repr(text[:SHOWN_LETTERS]) for text in sorted(cut)[:SHOWN])
    more = ", ..." if len(cut) > SHOWN else ""
    return (
        f"{stage}: {len(cut):,} of {len(texts):,} {what} are longer than a text encoder reads ({each}); "
        f"critic and rewards read them whole: {first}{more}"
    )

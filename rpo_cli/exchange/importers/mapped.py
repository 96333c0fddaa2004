"""Rows that are mappings of names to values, whatever file they stand in: which columns mean what."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rpo_cli.exchange.incoming import BadRow, Entry, Picture, Vote, choice_of, prompt_of

PROMPTS = ("prompt", "caption", "text", "original_prompt")
# (first, second, is the first the winner unless labels say otherwise)
PAIRS = (
    ("chosen", "rejected", True),
    ("chosen_file_name", "rejected_file_name", True),
    ("winner", "loser", True),
    ("win", "lose", True),
    ("image_0_file_name", "image_1_file_name", False),
    ("jpg_0", "jpg_1", False),
    ("image_0", "image_1", False),
)
SINGLES = ("file_name", "image", "image_path", "jpg", "path")


@dataclass(frozen=True)
class Layout:
    """Columns of the prompt and of one or two pictures; `missing` names what was not found."""

    prompt: str
    first: str
    second: str | None
    ranked: bool
    missing: tuple[str, ...] = ()

    def columns(self, present: Sequence[str]) -> list[str]:
        """The columns of `present` that an entry is made of."""
        told = ("label_0", "label_1", "model_0", "model_1", "image_0_uid", "image_1_uid", "ranking_id")
        wanted = (self.prompt, self.first, self.second, *told, "model", "id")
        return [name for name in dict.fromkeys(wanted) if name is not None and name in present]


def layout_of(pictures: Sequence[str], others: Sequence[str], column: str | None = None) -> Layout:
    """What the columns of a table mean.

    Args:
        pictures: names of columns that may hold a picture or its path.
        others: the rest.
    """
    named = [*others, *pictures]
    prompt = column or next((name for name in PROMPTS if name in named), "")
    lacks = [] if prompt in named else [column or f"prompt (one of {', '.join(PROMPTS)})"]
    for first, second, ranked in PAIRS:
        if first in pictures and second in pictures:
            if not ranked and "label_0" not in named:
                lacks.append("label_0")
            return Layout(prompt, first, second, ranked, tuple(lacks))
    single = next((name for name in SINGLES if name in pictures), "")
    if not single:
        lacks.append(f"picture (one of {', '.join(SINGLES)}, or a pair such as chosen and rejected)")
    return Layout(prompt, single, None, False, tuple(lacks))


def to_entry(
    layout: Layout, picture: Callable[[Any, str], bytes], row: int, raw: Mapping[str, Any]
) -> Entry:
    """One entry of a row.

    Args:
        picture: (value, column) → encoded bytes.

    Raises:
        BadRow: what is wrong with the row.
    """
    prompt = prompt_of(_value(raw, layout.prompt))
    if layout.second is None:
        name = raw.get("image_0_uid") or raw.get("id")
        one = Picture(
            picture(_value(raw, layout.first), layout.first), _text(name), _text(raw.get("model"))
        )
        return Entry(row, prompt, (one,))
    labelled = raw.get("label_0") is not None or raw.get("label_1") is not None
    choice = choice_of(raw.get("label_0"), raw.get("label_1")) if labelled or not layout.ranked else "a"
    pictures = tuple(
        Picture(
            picture(_value(raw, name), name), _text(raw.get(f"image_{n}_uid")), _text(raw.get(f"model_{n}"))
        )
        for n, name in enumerate((layout.first, layout.second))
    )
    return Entry(
        row, prompt, pictures, (Vote(0, 1, choice, _text(raw.get("ranking_id") or raw.get("id"))),)
    )


def _value(raw: Mapping[str, Any], name: str) -> Any:
    if name not in raw:
        raise BadRow("missing_column", f"no {name}")
    return raw[name]


def _text(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)[:200]

"""What can be a prompt: a text that is kept as it is given, less outer white space and byte-order marks."""

import math
from typing import Any

from rpo_cli.text import MARK

MAX_CHARACTERS = 10_000


def trimmed(text: str) -> str:
    """A text less outer white space and byte-order marks; whatever is inside stays."""
    before = ""
    while text != before:
        before, text = text, text.strip().strip(MARK)
    return text


def unfit(value: Any) -> tuple[str, str] | None:
    """Why a value cannot be a prompt, in a word and in a sentence; None for one that can."""
    if not isinstance(value, str):
        return "no_prompt", _no_text(value)
    length = len(trimmed(value)) if len(value) > MAX_CHARACTERS else 0
    if length > MAX_CHARACTERS:
        return "long_prompt", f"{length:,} characters, more than {MAX_CHARACTERS:,}"
    half = half_character(value)
    return None if half is None else ("bad_text", f"the prompt {half}")


def half_character(text: str) -> str | None:
    """What of a text cannot be stored; None where all of it can."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"holds half a character (U+{ord(text[error.start]):04X}), which no file can hold"
    return None


def _no_text(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "NaN is no text"
    kinds = {
        bool: "true or false",
        dict: "an object",
        list: "a list",
        bytes: "bytes",
        type(None): "nothing",
    }
    kind = next((name for known, name in kinds.items() if isinstance(value, known)), None)
    shown = repr(value)[:60].encode("utf-8", "backslashreplace").decode()
    return f"{kind or type(value).__name__} is no text: {shown}"


def storable(name: str) -> str:
    """A file's name as text that can be kept: bytes that are not UTF-8 as escapes."""
    return name.encode("utf-8", "backslashreplace").decode()

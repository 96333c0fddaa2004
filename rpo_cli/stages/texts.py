"""Whether a free text of a critic can be used: no control characters, loops or refusals."""

import re

from rpo_cli.stages.refusals import is_refusal

# lone surrogates are no text either: they cannot be written
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
LOOP_TIMES = 4  # a phrase said so often in a row is a loop


def check_text(text: str) -> str | None:
    """What is wrong with a free text, in a few words; None when it can be used."""
    if not text.strip():
        return "empty"
    if _CONTROL.search(text):
        return "control characters"
    if loops(text):
        return "the same words over and over"
    if is_refusal(text):
        return "a refusal"
    return None


def loops(text: str) -> bool:
    """Whether a phrase of 1 to 12 words stands LOOP_TIMES in a row, or half of many sentences are repeats.

    Texts without spaces count by runs of characters; rules and borders of tables are no words.
    """
    words = [word for word in text.split() if any(sign.isalnum() for sign in word)]
    for size in range(1, 13):
        for start in range(len(words) - size * LOOP_TIMES + 1):
            phrase = words[start : start + size]
            repeats = (words[start + size * k : start + size * (k + 1)] for k in range(1, LOOP_TIMES))
            if all(other == phrase for other in repeats):
                return True
    sentences = [part.strip() for part in re.split(r"[.!?\n]+", text) if part.strip(" \t|-=*#_:")]
    if len(sentences) >= 6 and len(set(sentences)) * 2 <= len(sentences):
        return True
    runs = re.finditer(r"(\S{1,12}?)\1{14,}", text)
    return any(any(sign.isalnum() for sign in run[1]) for run in runs)

"""What a critic's reply must be, whatever the model: schema, lengths, no loops, refusals or controls."""

import json
import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rpo_cli.records import Flaw
from rpo_cli.stages.rubrics import Extra, Rubric

# No control characters, `"` or `\`: xgrammar lets raw ones through where only maxLength is given
# (feasibility.md 2). Other languages are welcome.
_PLAIN = r'[^\u0000-\u001f\u007f"\\]'
SHORT, LONG = f"^{_PLAIN}{{1,200}}$", f"^{_PLAIN}{{1,1000}}$"
MOST_FLAWS = 10
PLAIN = Rubric()
LOOP_TIMES = 4  # a phrase said so often in a row is a loop

# lone surrogates are no text either: they cannot be written
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_REFUSAL = re.compile(
    r"\b(i(['’]m| am) (sorry|unable|not able)|i (cannot|can['’]t|can not|won['’]t|apologi[sz]e)|as an ai\b|"
    r"(unable|not able) to (assist|help|comply|provide|see|view|analy[sz]e))",
    re.IGNORECASE,
)
_NOTHING_TO_DO = re.compile(
    r"^(none|n/?a|nothing|no (changes?|edits?|modifications?|instructions?)( (is|are))?"
    r"( (needed|required|necessary))?)\.?$",
    re.IGNORECASE,
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FlawReply(_Strict):
    aspect: str = Field(pattern=SHORT)
    detail: str = Field(pattern=SHORT)


class InstructionsReply(_Strict):
    """Turn 2."""

    flaws: list[FlawReply] = Field(max_length=MOST_FLAWS)
    instructions: list[str]


class SingleReply(_Strict):
    """Both turns at once; the critique comes first, so that it is written before what follows from it."""

    critique: str = Field(pattern=LONG)
    flaws: list[FlawReply] = Field(max_length=MOST_FLAWS)
    instructions: list[str]


@dataclass(frozen=True)
class Parsed:
    """A good reply."""

    text: str
    flaws: tuple[Flaw, ...]
    instructions: tuple[str, ...]
    reply: str
    scores: dict[str, float] | None = None


@dataclass(frozen=True)
class BadReply:
    """Why a reply cannot be used, and its raw text."""

    why: str
    raw: str


def schema(max_instructions: int, *, single: bool, rubric: Rubric = PLAIN) -> dict[str, Any]:
    """The JSON schema that a critic is held to."""
    made = (SingleReply if single else InstructionsReply).model_json_schema()
    made["properties"]["instructions"] |= {
        "items": {"type": "string", "pattern": SHORT},
        "maxItems": max_instructions,
    }
    return rubric.into(made)


def check_text(text: str) -> str | None:
    """What is wrong with a free text, in a few words; None when it can be used."""
    if not text.strip():
        return "empty"
    if _CONTROL.search(text):
        return "control characters"
    if loops(text):
        return "the same words over and over"
    if _REFUSAL.search(text):
        return "a refusal"
    return None


def loops(text: str) -> bool:
    """Whether a phrase of 1 to 12 words stands LOOP_TIMES in a row, or half of many sentences are repeats.

    Texts without spaces count by runs of characters.
    """
    words = text.split()
    for size in range(1, 13):
        for start in range(len(words) - size * LOOP_TIMES + 1):
            phrase = words[start : start + size]
            repeats = (words[start + size * k : start + size * (k + 1)] for k in range(1, LOOP_TIMES))
            if all(other == phrase for other in repeats):
                return True
    sentences = [part.strip() for part in re.split(r"[.!?\n]+", text) if part.strip()]
    if len(sentences) >= 6 and len(set(sentences)) * 2 <= len(sentences):
        return True
    return re.search(r"(\S{1,12}?)\1{14,}", text) is not None


def parse(
    reply: str,
    text: str,
    *,
    single: bool,
    max_instructions: int,
    max_words: int,
    rubric: Rubric = PLAIN,
    prompt: str = "",
) -> Parsed | BadReply:
    """The checked content of a JSON reply; `text` is the free text of turn 1, unused when `single`."""
    if not reply.strip():
        return BadReply("empty", reply)
    try:
        found = json.loads(reply)
        taken = rubric.take(found, prompt) if isinstance(found, dict) else (found, Extra())
        if isinstance(taken, str):
            return BadReply(taken, reply)
        value = (SingleReply if single else InstructionsReply).model_validate(taken[0])
    except (json.JSONDecodeError, RecursionError):
        return BadReply("not JSON", reply)
    except ValidationError as error:
        first = error.errors()[0]
        return BadReply(f"{'.'.join(str(p) for p in first['loc'])}: {first['msg'].lower()}", reply)
    critique = value.critique if isinstance(value, SingleReply) else text
    instructions = [one.strip() for one in value.instructions]
    instructions = [one for one in instructions if not _NOTHING_TO_DO.match(one)]
    said = [critique, *(flaw.detail for flaw in value.flaws), *(flaw.aspect for flaw in value.flaws)]
    why = next((why for one in said if (why := check_text(one))), None)
    why = why or _check_instructions(instructions, max_instructions, max_words)
    if why:
        return BadReply(why, reply)
    flaws = tuple(Flaw(aspect=flaw.aspect.strip(), detail=flaw.detail.strip()) for flaw in value.flaws)
    return Parsed(critique.strip(), flaws + taken[1].flaws, tuple(instructions), reply, taken[1].scores)


def _check_instructions(instructions: list[str], most: int, max_words: int) -> str | None:
    if len(instructions) > most:
        return f"{len(instructions)} instructions, at most {most} allowed"
    for one in instructions:
        if why := check_text(one) or (None if re.match(SHORT, one) else "characters not allowed"):
            return f"instruction: {why}"
        if len(one.split()) > max_words:
            return f"instruction of {len(one.split())} words, at most {max_words} allowed"
    folded = [one.casefold().rstrip(".") for one in instructions]
    return "the same instruction twice" if len(set(folded)) < len(folded) else None

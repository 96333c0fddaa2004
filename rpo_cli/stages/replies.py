"""What a critic's reply must be, whatever the model: cleaned, in form, with what its style asks for beside.

A style's `rubric.txt` says it, one thing a line: `score <aspect>` for a score of 1 to 5 with its evidence,
`words` for the words of the prompt that the picture does not match, `nothing_to_change` for a plain yes or
no before the instructions. Words are RichHF's token-level feedback (Liang et al. 2024, arXiv:2312.10240):
its misalignment label per word of the prompt.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from rpo_cli.errors import UsageError
from rpo_cli.records import Flaw
from rpo_cli.stages import cleaning, instructions
from rpo_cli.stages.instructions import asks_for_nothing
from rpo_cli.stages.refusals import check_text, evades, is_refusal

LOWEST, HIGHEST = 1, 5
MOST_WORDS = 40
NOTHING = "nothing_to_change"
_ASPECT = re.compile(r"score ([a-z][a-z0-9_-]{0,39})")
_SHORT = r"^[^\u0000-\u001f\u007f]{1,200}$"


class _Scored(BaseModel):
    """The evidence stands first, so that the score follows from it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    evidence: str = Field(pattern=_SHORT)
    score: int = Field(ge=LOWEST, le=HIGHEST)


@dataclass(frozen=True)
class Extra:
    """What a rubric adds to a critique."""

    scores: dict[str, float] | None = None
    flaws: tuple[Flaw, ...] = ()


@dataclass(frozen=True)
class Rubric:
    """`aspects` are scored; `words` of the prompt are marked; `nothing`: whether anything is to change.

    The default asks for none of them.
    """

    aspects: tuple[str, ...] = ()
    words: bool = False
    nothing: bool = False

    @classmethod
    def read(cls, name: str, text: str) -> "Rubric":
        """From the text of rubric.txt.

        Raises:
            UsageError: a line that is neither `score <aspect>`, `words` nor `nothing_to_change`.
        """
        aspects, words, nothing = [], False, False
        for line in filter(None, map(str.strip, text.splitlines())):
            if line == "words":
                words = True
            elif line == NOTHING:
                nothing = True
            elif found := _ASPECT.fullmatch(line):
                aspects.append(found[1])
            else:
                raise UsageError(
                    f"template {name}: '{line[:60]}' asks for nothing known",
                    f"score NAME, words, or {NOTHING}",
                )
        return cls(tuple(dict.fromkeys(aspects)), words, nothing)

    def model(self) -> type[BaseModel]:
        """The JSON object that holds only what this rubric asks for."""
        strict = ConfigDict(extra="forbid", strict=True)
        fields: dict[str, Any] = {}
        if self.aspects:
            aspects: Any = dict.fromkeys(self.aspects, (_Scored, ...))
            fields["scores"] = (create_model("Scores", __config__=strict, **aspects), ...)
        if self.words:
            fields["misaligned"] = (list[str], Field(max_length=MOST_WORDS))
        made: type[BaseModel] = create_model("Rubric", __config__=strict, **fields)
        return made

    def into(self, schema: dict[str, Any]) -> dict[str, Any]:
        """`schema` of a reply with this rubric's properties, in the order of thought."""
        if not (self.aspects or self.words or self.nothing):
            return schema
        own = self.model().model_json_schema()
        if self.words:
            own["properties"]["misaligned"] |= {"items": {"type": "string", "pattern": _SHORT}}
        critique = {key: value for key, value in schema["properties"].items() if key == "critique"}
        last = {key: value for key, value in schema["properties"].items() if key == "instructions"}
        plain = {NOTHING: {"type": "boolean"}} if self.nothing else {}
        properties = {**critique, **own["properties"], **schema["properties"]}
        properties = {key: value for key, value in properties.items() if key not in last} | plain | last
        needed = [*schema.get("required", ()), *own.get("required", ()), *plain]
        return {
            **schema,
            "properties": properties,
            "required": [key for key in properties if key in needed],
            "$defs": {**schema.get("$defs", {}), **own.get("$defs", {})},
        }

    def take(self, value: Mapping[str, Any], prompt: str) -> "tuple[dict[str, Any], Extra] | str":
        """(the reply without what this rubric asked for, what it adds), or why it cannot be used."""
        asked = (("scores", bool(self.aspects)), ("misaligned", self.words))
        own = {key: value[key] for key, wanted in asked if wanted and key in value}
        rest = {key: item for key, item in value.items() if key not in own}
        try:
            self.model().model_validate(own)
        except ValidationError as error:
            first = error.errors()[0]
            return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg'].lower()}"
        scores = (
            {name: float(own["scores"][name]["score"]) for name in self.aspects} if self.aspects else None
        )
        words = [str(word).strip() for word in own.get("misaligned", ())]
        stray = next((word for word in words if not _stands_in(word, prompt)), None)
        if stray is not None:
            return f"misaligned: '{stray[:60]}' is no word of the prompt"
        flaws = [Flaw(aspect="alignment", detail=f"does not match '{w}'") for w in dict.fromkeys(words)]
        return rest, Extra(scores, tuple(flaws))


def _stands_in(word: str, prompt: str) -> bool:
    """Whether whole words of the prompt, in their order, are this; capitals and spaces do not count."""
    folded = " ".join(prompt.casefold().split())
    pattern = r"(?<!\w)" + re.escape(" ".join(word.casefold().split())) + r"(?!\w)"
    return bool(word.strip()) and re.search(pattern, folded) is not None


# Control characters are kept out by a pattern: xgrammar 0.2.8 lets raw ones through where maxLength stands
# alone. Other languages and quotation marks are welcome.
_TEXT = r"[^\u0000-\u001f\u007f]"
SHORT, LONG = f"^{_TEXT}{{1,200}}$", f"^{_TEXT}{{1,1000}}$"
# the embedded critic never learned to escape a quotation mark, and its rows stay as they are
_PLAIN = r'[^\u0000-\u001f\u007f"\\]'
MOST_FLAWS = 10
LONGEST = 8000  # characters of a text that a server was not held to the length of
PLAIN = Rubric()
UNNAMED = "other"  # aspect of a flaw that came as a mere sentence

EXTRA_KEYS, OTHER_FORM, OVERRULED = "extra keys", "another form", "contradiction"
NO_FLAW = "no flaw"
SAID = {
    **cleaning.SAID,
    **instructions.SAID,
    EXTRA_KEYS: "held keys that nobody asked for, which were left out",
    OTHER_FORM: "gave flaws or instructions in another form than was asked for",
    OVERRULED: "left it contradictory whether anything is to change; two of flaws, instructions and "
    "nothing_to_change count",
    NO_FLAW: "said that there is none, and was left out where nothing is to change",
}

# what is counted where it is not replies
WHAT = dict.fromkeys((instructions.NO_CHANGE, instructions.ANEW, instructions.SURPLUS), "instruction")
WHAT[NO_FLAW] = "flaw"

_SAYS = {True: True, False: False, "true": True, "yes": True, "false": False, "no": False}


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
    """A good reply; `notes` are keys of SAID, one for each thing that was done to it.

    `raw_text` is the free text as it came, where it was cleaned.
    """

    text: str
    flaws: tuple[Flaw, ...]
    instructions: tuple[str, ...]
    reply: str
    scores: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    raw_text: str | None = None


@dataclass(frozen=True)
class BadReply:
    """Why a reply cannot be used, its raw text, and what was done to it before."""

    why: str
    raw: str
    notes: tuple[str, ...] = ()


class _Wrong(Exception):
    """A reply that cannot be used; its text says why."""


def schema(
    max_instructions: int, *, single: bool, rubric: Rubric = PLAIN, quotes: bool = True
) -> dict[str, Any]:
    """The JSON schema that a critic is held to.

    Args:
        quotes: whether texts may hold quotation marks; the embedded critic's may not.
    """
    made = (SingleReply if single else InstructionsReply).model_json_schema()
    made["properties"]["instructions"] |= {
        "items": {"type": "string", "pattern": SHORT},
        "maxItems": max_instructions,
    }
    held = rubric.into(made)
    return held if quotes else _without_quotes(held)


def _without_quotes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_quotes(item) for key, item in value.items()}
    return value.replace(_TEXT, _PLAIN) if isinstance(value, str) else value


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
    """The checked content of a raw JSON reply; `text` is the free text of turn 1, unused when `single`.

    A reply that is no JSON by itself is cleaned first. Where the critic contradicts itself on whether
    anything is to change, two of its three witnesses count: flaws, instructions, `nothing_to_change`.
    """
    try:
        found, notes = _document(reply)
        taken = rubric.take(found.value, prompt)
        if isinstance(taken, str):
            raise _Wrong(taken)
        value, extra = taken
        flaws = _flaws(value.get("flaws"), notes)
        critique = _text(value.get("critique"), "critique") if single else text
        real = tuple(flaw for flaw in flaws if not asks_for_nothing(flaw.detail))
        kept = _kept(value, real, max_instructions, max_words, notes)
        if not kept:
            notes.extend([NO_FLAW] * (len(flaws) - len(real)))
            flaws = real
        _refuse_refusals([found.prose, critique], value, flaws, kept)
        _check_texts([critique, *(flaw.detail for flaw in flaws), *(flaw.aspect for flaw in flaws)])
    except _Wrong as wrong:
        return BadReply(str(wrong), reply)
    if value.keys() - set(cleaning.KEYS):
        notes.append(EXTRA_KEYS)
    notes = [note for place, note in enumerate(notes) if note in WHAT or note not in notes[:place]]
    return Parsed(critique.strip(), (*flaws, *extra.flaws), kept, reply, extra.scores, tuple(notes))


def _document(reply: str) -> tuple[cleaning.Document, list[str]]:
    """The JSON object of a reply and what was cut away around it.

    Raises:
        _Wrong: an empty reply, or one without one.
    """
    bare = cleaning.document(reply.strip()) if reply.lstrip().startswith("{") else None
    if bare is not None and not bare.notes:
        return bare, []
    clean = cleaning.cleaned(reply)
    if not clean.text:
        raise _Wrong("empty" if not clean.notes else f"empty beside {' and '.join(clean.notes)}")
    found = cleaning.document(clean.text)
    if found is None:
        raise _Wrong("a refusal" if is_refusal(clean.text) else "not JSON")
    return found, [*clean.notes, *found.notes]


def _flaws(given: Any, notes: list[str]) -> tuple[Flaw, ...]:
    """Flaws from objects or sentences; one text stands for a list of one, and null for none."""
    if not isinstance(given, list):
        notes.append(OTHER_FORM)
        given = [] if given is None else [given]
    if len(given) > MOST_FLAWS:
        raise _Wrong(f"flaws: {len(given)}, at most {MOST_FLAWS} allowed")
    made = []
    for place, one in enumerate(given):
        if isinstance(one, str):
            notes.append(OTHER_FORM)
            one = {"aspect": UNNAMED, "detail": one}
        if not isinstance(one, dict):
            raise _Wrong(f"flaws.{place}: no object")
        one = cleaning.in_small_letters(one)
        if one.keys() - {"aspect", "detail"}:
            notes.append(EXTRA_KEYS)
        aspect, detail = (" ".join(_text(one.get(key), f"flaws.{place}.{key}").split()) for key in
                          ("aspect", "detail"))  # fmt: skip
        made.append(Flaw(aspect=aspect, detail=detail))
    return tuple(made)


def _text(given: Any, where: str) -> str:
    if not isinstance(given, str):
        raise _Wrong(f"{where}: {'field required' if given is None else 'no text'}")
    if not 0 < len(given) <= LONGEST:
        raise _Wrong(f"{where}: {len(given)} characters, 1 to {LONGEST} allowed")
    return given


def _kept(
    value: Mapping[str, Any], flaws: tuple[Flaw, ...], most: int, max_words: int, notes: list[str]
) -> tuple[str, ...]:
    """The instructions that are sent to an editor."""
    says = _SAYS.get(_folded(value.get(NOTHING)))
    given = value.get("instructions")
    if "instructions" not in value and says is not True:
        raise _Wrong("instructions: field required")
    if not isinstance(given, list):
        notes.append(OTHER_FORM)
        if isinstance(given, dict) and all(str(key).strip()[-1:].isdigit() for key in given):
            given = list(given.values())
        else:
            given = [given] if given else []
    texts = [_instruction(one, place, notes) for place, one in enumerate(given)]
    found = instructions.instructions_of(texts, most)
    _check_instructions(found.kept, max_words)
    if not flaws and says is not False:
        found = instructions.instructions_of(texts, most, flawless=True)
    notes.extend(found.notes)
    if says is True and found.kept:
        notes.append(OVERRULED)
        return found.kept if flaws else ()
    if says is False and not (found.kept or flaws or found.notes):
        notes.append(OVERRULED)
    return found.kept


def _folded(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value if isinstance(value, bool) else None


def _instruction(given: Any, place: int, notes: list[str]) -> str:
    """A text, or the only text of an object that stands for one."""
    if isinstance(given, dict):
        texts = [one for one in (given.get(key) for key in ("instruction", "edit", "text")) if one]
        given = texts[0] if len(texts) == 1 else given
        notes.append(OTHER_FORM)
    if not isinstance(given, str):
        raise _Wrong(f"instructions.{place}: no text")
    if len(given) > LONGEST:
        raise _Wrong(f"instructions.{place}: {len(given)} characters, at most {LONGEST} allowed")
    return given


def _refuse_refusals(
    said: list[str], value: Mapping[str, Any], flaws: tuple[Flaw, ...], kept: tuple[str, ...]
) -> None:
    """A reply that asks for nothing and refuses beside it is no critique without flaws.

    Args:
        said: the free text, and the prose around the JSON.
    """
    if flaws:
        return
    given = value.get("instructions")
    asked = given if isinstance(given, list) else [given]
    beside = [*asked, *(item for key, item in value.items() if key not in cleaning.KEYS)]
    texts = [one for one in (*said, *beside) if isinstance(one, str)]
    if any(map(evades, kept)) or (not kept and any(is_refusal(one) or evades(one) for one in texts)):
        raise _Wrong("a refusal")


def _check_texts(texts: list[str]) -> None:
    why = next((why for one in texts if (why := check_text(one))), None)
    if why:
        raise _Wrong(why)


def _check_instructions(kept: tuple[str, ...], max_words: int) -> None:
    for one in kept:
        if why := check_text(one) or (None if re.match(SHORT, one) else "characters not allowed"):
            raise _Wrong(f"instruction: {why}")
        if len(one.split()) > max_words:
            raise _Wrong(f"instruction of {len(one.split())} words, at most {max_words} allowed")
    folded = [one.casefold().rstrip(".") for one in kept]
    if len(set(folded)) < len(folded):
        raise _Wrong("the same instruction twice")

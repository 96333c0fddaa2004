"""What a critique style asks for beside flaws and instructions: scores of aspects, or words of the prompt.

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

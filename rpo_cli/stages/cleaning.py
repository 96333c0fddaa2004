"""A critic's raw reply → what it says: thinking, tags, fences and boxes cut away, one JSON document found.

The one place where a reply is cleaned; both turns pass through it, and what was done is told in short words
(`Cleaned.notes`) that a critique keeps and the stage counts. Nothing is guessed at: a reply with two
different documents, or with none, is no document.
"""

import ast
import json
import re
from dataclasses import dataclass
from typing import Any

LONGEST = 200_000  # characters; a reply of 8,192 tokens is far shorter
DEEPEST = 20  # brackets in brackets
MOST_TRIES = 64  # places where a document might begin
KEYS = ("flaws", "instructions", "critique", "nothing_to_change")

# what was done to a reply → how it is told of several
THINKING, ANSWER, FENCE, BOX, TOKENS = "thinking", "answer tags", "code fence", "box", "control tokens"
PROSE, REPAIRED, WRAPPED = "prose around JSON", "mended JSON", "wrapped JSON"
OTHER_FIELD = "reasoning field"
SAID = {
    THINKING: "held thinking, which was cut away",
    ANSWER: "stood in answer tags, which were cut away",
    FENCE: "stood in a code fence, which was cut away",
    BOX: "stood in a box, which was cut away",
    TOKENS: "held control tokens, which were cut away",
    PROSE: "held prose around JSON, which was cut away",
    REPAIRED: "held faulty JSON, which was mended",
    OTHER_FIELD: "had no content; the field for reasoning stands in for it",
    WRAPPED: "held JSON in a list or an object of one",
}

_THINK = r"think(?:ing)?|thoughts?|reason(?:ing)?|seed:think"
_OPEN = rf"<(?:{_THINK})>|\[think\]|◁think▷"
_CLOSE = rf"</(?:{_THINK})>|\[/think\]|◁/think▷"
_THOUGHT = re.compile(rf"(?:{_OPEN})(?:(?!{_OPEN}).)*?(?:{_CLOSE})", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(rf"\A.*(?:{_CLOSE})", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(rf"(?:{_OPEN}).*\Z", re.DOTALL | re.IGNORECASE)
_ANSWER_TAG = re.compile(r"<(/?)(answer|output|response|final)>", re.IGNORECASE)
_BOXED = re.compile(r"<\|begin_of_box\|>(.*?)(?:<\|end_of_box\|>|\Z)", re.DOTALL)
_TOKEN = re.compile(r"<\|[a-z_]{2,40}\|>|</?s>|<(?:end_of_turn|end_of_utterance|eos)>", re.IGNORECASE)
_FENCE = re.compile(r"\A\s*(?:`{3}|~{3})[\w-]*[ \t]*\n?(.*?)\n?[ \t]*(?:`{3}|~{3})\s*\Z", re.DOTALL)
_STRING = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_COMMA = re.compile(rf"({_STRING})|,(?=\s*[\]}}])", re.DOTALL)
_KEY = re.compile(
    rf"({_STRING})|(?<=[{{,\s])(flaws|instructions|critique|aspect|detail|nothing_to_change)(?=\s*:)",
    re.DOTALL,
)
_NO_COMMA = re.compile(rf"({_STRING})(?=\s+[\"'])", re.DOTALL)
_COMMENT = re.compile(rf"({_STRING})|//[^\n]*|/\*[^*]*\*/", re.DOTALL)
_WORD = re.compile(rf"({_STRING})|\b(?:true|false|null)\b", re.DOTALL)
_BACKSLASH = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = "\\'\"abfnrtvxuUN\n"  # others are none in Python, which would warn of them
_PYTHON = {"true": "True", "false": "False", "null": "None"}


@dataclass(frozen=True)
class Cleaned:
    """A reply's text without what only surrounds it, and what was cut away."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Document:
    """The JSON object of a reply, the prose around it, and how it had to be read."""

    value: dict[str, Any]
    prose: str = ""
    notes: tuple[str, ...] = ()


def cleaned(raw: str) -> Cleaned:
    """The text of a reply; empty when all of it is thinking (which a reply that was cut off never ended).

    Line ends become `\\n`; what stands in `<answer>` or in a box is the whole reply.
    """
    text = raw.replace("\r\n", "\n").replace("\r", "\n").strip()
    steps = (
        (THINKING, _without_thinking),
        (ANSWER, _answer),
        (BOX, _boxed),
        (TOKENS, lambda text: _TOKEN.sub("", text)),
        (FENCE, _unfenced),
    )
    notes = []
    for note, step in steps:
        changed = step(text).strip()
        if changed != text:
            notes.append(note)
        text = changed
    return Cleaned(text, tuple(notes))


def _without_thinking(text: str) -> str:
    before = None
    while before != text:  # thoughts inside thoughts
        before, text = text, _THOUGHT.sub("", text)
    return _UNCLOSED.sub("", _UNOPENED.sub("", text))


def _answer(text: str) -> str:
    """What stands in the last answer tags; tags without a partner go alone."""
    opened: dict[str, int] = {}
    start = end = -1
    for tag in _ANSWER_TAG.finditer(text):
        name = tag[2].lower()
        if not tag[1]:
            opened.setdefault(name, tag.end())
        elif name in opened:
            start, end = opened.pop(name), tag.start()
    return text[start:end] if start >= 0 else _ANSWER_TAG.sub("", text)


def _boxed(text: str) -> str:
    """The last box: between GLM's marks, or in LaTeX's \\boxed{...}."""
    if found := _BOXED.findall(text):
        return str(found[-1])
    start = text.rfind("\\boxed{")
    if start < 0:
        return text
    inside, depth = start + len("\\boxed{"), 1
    for place in range(inside, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return re.sub(r"\A\s*\\text\{(.*)\}\s*\Z", r"\1", text[inside:place], flags=re.DOTALL)
    return text


def _unfenced(text: str) -> str:
    found = _FENCE.fullmatch(text)
    return found[1] if found and "```" not in found[1] else text


def document(text: str) -> Document | None:
    """The one JSON object in `text`; None when there is none, or several that differ.

    A list of one object is that object, and so is an object that holds nothing else. Trailing commas,
    comments, Python's and typographic quotes and quotes that were not escaped are read too.
    """
    text = text[:LONGEST]
    whole = _loaded(text)
    if whole is not None:
        return _unwrapped(whole, "", ())
    found = list(_inside(text))
    values = [value for value, _, _ in found]
    if values and all(value == values[0] for value in values):
        _, start, end = found[-1]
        return _unwrapped(values[0], _around(text, start, end), (PROSE,))
    return None if values else _mended(text)


def _unwrapped(value: Any, prose: str, notes: tuple[str, ...]) -> Document | None:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value, notes = value[0], (*notes, WRAPPED)
    if not isinstance(value, dict):
        return None
    held = next(iter(value.values())) if len(value) == 1 else None
    if isinstance(held, dict) and _is_reply(held):
        value, notes = held, (*notes, WRAPPED)
    return Document(in_small_letters(value), prose, notes)


def in_small_letters(value: dict[str, Any]) -> dict[str, Any]:
    """The object with its keys in small letters; of two keys that are one then, the first counts."""
    made: dict[str, Any] = {}
    for key, item in value.items():
        made.setdefault(key.strip().lower() if isinstance(key, str) else key, item)
    return made


def _is_reply(value: dict[str, Any]) -> bool:
    return not in_small_letters(value).keys().isdisjoint(KEYS)


def _around(text: str, start: int, end: int) -> str:
    left, right = text[:start].rstrip("[ \n"), text[end:].lstrip("] \n")
    return re.sub(r"`{3}\w*", "", f"{left}\n{right}").strip()


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None


def _inside(text: str) -> list[tuple[dict[str, Any], int, int]]:
    """(object, start, end) of the objects in `text` that hold a reply's keys, none inside another."""
    places = [found.start() for found in re.finditer(r"\{\s*\"", text)]
    if len(places) > MOST_TRIES:
        places = [*places[: MOST_TRIES // 2], *places[-MOST_TRIES // 2 :]]
    decoder, found, past = json.JSONDecoder(strict=False), [], 0
    for place in places:
        if place < past:
            continue
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        if _is_reply(value):
            found.append((value, place, end))
            past = end
    return found


def _mended(text: str) -> Document | None:
    """An object that is nearly JSON, from the first brace to the last; the last may be missing."""
    start, end = text.find("{"), text.rfind("}") + 1
    if start < 0 or _depth(text[start:]) > DEEPEST:
        return None
    if (whole := _loaded(f"{text[start:]}}}")) is not None and _is_reply(whole):
        return _unwrapped(whole, text[:start].strip(), (REPAIRED,))
    if end <= start:
        return None
    near, prose = text[start:end], _around(text, start, end)
    if '"' not in near:
        near = re.sub("[“”„]", '"', near)
    bare = _COMMA.sub(lambda found: found[1] or "", near)
    plain = _COMMA.sub(lambda found: found[1] or "", _COMMENT.sub(lambda found: found[1] or "", near))
    plain = _NO_COMMA.sub(r"\1,", _KEY.sub(lambda found: found[1] or f'"{found[2]}"', plain))
    for value in (_loaded(bare), _loaded(plain), _python(bare), _loaded(_escaped(bare))):
        if isinstance(value, dict) and _is_reply(value):
            return _unwrapped(value, prose, (*((PROSE,) if prose else ()), REPAIRED))
    return None


def _depth(text: str) -> int:
    depth = most = 0
    for sign in text:
        depth += (sign in "[{(") - (sign in "]})")
        most = max(most, depth)
    return most


def _python(text: str) -> Any:
    """A dict as Python prints it; constants may be JSON's, and a lone backslash is one."""
    text = _BACKSLASH.sub(lambda found: found[0] if found[1] in _ESCAPES else f"\\{found[0]}", text)
    try:
        return ast.literal_eval(_WORD.sub(lambda found: found[1] or _PYTHON[found[0]], text))
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None


def _escaped(text: str) -> str:
    """`text` with a backslash before each quotation mark that neither begins nor ends a JSON string."""
    return re.sub(
        r"(?<![{\[,:\\\s])\"(?!\s*[,:\]}])|(?<=\s)(?<![{\[,:]\s)\"(?=\S)(?!\s*[,:\]}])", r'\\"', text
    )

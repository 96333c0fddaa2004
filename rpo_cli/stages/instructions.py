"""What a critic wants done, as separate clean instructions; those that ask for nothing are left out.

A sentence of no change that reached an editor would become a pair whose loser is as good as its winner, or
better. So it is told by what it means, clause by clause, in the languages of `tongues`; a clause that asks
for a change keeps the whole instruction, as it stands.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rpo_cli.stages.tongues import TONGUES
from rpo_cli.stages.tongues.tongue import Tongue

LONGEST = 1000  # characters that are looked at; an instruction is far shorter
QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’(?!\w)|(?<!\w)'[^']*'(?!\w)"
)
_QUOTED_WHOLE = re.compile(r"\s*[\"“„«「'‘*_`]+(?P<inside>[^\"“”„«»「」]*?)[\"“”»」'’*_`.]+\s*")
_LABEL = re.compile(
    r"^(?:(?:suggested|required|recommended|needed|final|next) )?(?:edits?|instructions?|changes?|actions?|"
    r"anweisung(?:en)?|änderung(?:en)?|modifications?|cambios?|instrucci(?:ón|ones)|指令|修改|建议|"
    r"编辑)\s*\d*\s*[:：]\s*"
)
_COUNTED = re.compile(r"\d+(?![\d%/.])")  # "3 birds on the branch"
_ONE_WORD = re.compile(r"[a-zà-ÿß'-]+")
_STOPS = r"[.!?:](?!\d)|[;,\n。！？；：，…()]|\s[-–/]+\s|—"


def asks_for_nothing(instruction: str) -> bool:
    """Whether no change is asked for, in whatever words: "keep it as it is", "无需修改".

    Languages share words, so one that finds a change after all overrules the others.
    """
    text = plain(instruction)
    if instruction.strip() and not any(sign.isalnum() for sign in text):
        return True  # "[]", "-"
    if _saved(text):
        return False
    found = {_found(text, tongue) for tongue in TONGUES}
    return "nothing" in found and "something" not in found


def asks_for_something(instruction: str) -> bool:
    """Whether a clause is known to be an order, or to hold a wish, in one of the languages."""
    text = plain(instruction)
    if _saved(text) or _COUNTED.match(text):
        return True
    return any(
        _orders(one, tongue)
        for tongue in TONGUES
        for place, one in enumerate(_clauses(text, tongue))
        if not (place and _ONE_WORD.fullmatch(one))  # "the subject, pose and light are right"
    )


def is_remark(text: str) -> bool:
    """Whether `text` asks for nothing, or speaks of the critic or of the picture, without an order."""
    if asks_for_nothing(text):
        return True
    bare = plain(text)
    return not asks_for_something(text) and any(_remarks(bare, tongue) for tongue in TONGUES)


def asks_anew(instruction: str) -> bool:
    """Whether another picture is asked for, which no editor makes: "regenerate the image with ..."."""
    text = plain(instruction)
    return any(re.match(tongue.anew, text) for tongue in TONGUES)


def without_quotes(text: str) -> str:
    """`text` with a square in place of each quoted passage; a text that is one quotation is read."""
    whole = _QUOTED_WHOLE.fullmatch(text)
    return QUOTED.sub("□", whole["inside"] if whole else text)


def _saved(text: str) -> bool:
    return any(re.search(tongue.saved, text) for tongue in TONGUES)


def _orders(clause: str, tongue: Tongue) -> bool:
    return bool(re.match(tongue.doing, clause) or re.search(tongue.demand, clause))


def plain(text: str) -> str:
    """In small letters and one spelling of apostrophes and spaces, its quoted words left out."""
    text = unicodedata.normalize("NFKC", without_quotes(text[:LONGEST])).replace("’", "'").lower()
    return _LABEL.sub("", " ".join(re.sub(r"[*_`#>]+", " ", text).split())).strip(" .-")


def _clauses(text: str, tongue: Tongue) -> list[str]:
    parts = (part.strip(" '-–") for part in re.split(f"{_STOPS}|{tongue.split}", text))
    return [part for part in parts if part]


def _remarks(text: str, tongue: Tongue) -> bool:
    return bool(re.match(tongue.remark, text)) and all(
        re.match(tongue.statement, one) or tongue.is_nothing(one) for one in _clauses(text, tongue)[1:]
    )


def _found(text: str, tongue: Tongue) -> str:
    """ "nothing": a clause at least asks for no change, and none for one; "something": both; "": neither.

    What is not understood is taken for an order at the beginning, and for talk after a clause of no change.
    """
    nothing = something = unclear = False
    for clause in _clauses(text, tongue):
        if tongue.is_nothing(clause):
            nothing = True
        elif _orders(clause, tongue):
            something = True
        elif not (nothing or _ONE_WORD.fullmatch(clause) or re.match(tongue.statement, clause)):
            unclear = True
    if not nothing or (unclear and not something):
        return ""
    return "something" if something else "nothing"


SPLIT, NUMBERED = "separated instructions", "numbered instructions"
NO_CHANGE, ANEW, SURPLUS = "no change", "another picture", "surplus"
SAID = {
    SPLIT: "held several instructions in one, which were separated",
    NUMBERED: "held numbers, bullets or marks at instructions, which were cut away",
    NO_CHANGE: "asked for no change, which is sent to no editor",
    ANEW: "asked for another picture, which no editor makes",
    SURPLUS: "went beyond critique.max_instructions; the first were kept",
}
_MARK = (
    r"\(?(?:\d{1,2}[.)．）](?!\d)|[ivx]{1,4}[.)](?=\s)|[a-h]\)(?=\s))|\[\d{1,2}\]|#\d{1,2}(?=\s)|[⑴-⑽]|"
    r"\d\ufe0f?\u20e3|"
    r"\d{1,2}(?:[、：]|:(?!\d)| -(?= ))|[①②③④⑤⑥⑦⑧⑨⑩]|第?[一二三四五六七八九十](?:[、：:]|(?<=第.)[，,])"
)
_PREFIX = re.compile(
    rf"\A(?:\s+|[-*+•·‣▪●○◦►▶✓☐–—](?=\s)|[•·‣▪●○◦►▶]|[✅✔☑👉➡➤➔➢🔹🔸🔷🔶✏🔧🛠📌📝❌]\ufe0f?(?=\s)|(?:{_MARK})\s*|"
    rf"#+\s+|"
    r"(?:instruction|edit|step|action|task|schritt|anweisung|étape|consigne|paso|instrucción|步骤|"
    r"指令)\s*#?\d{0,2}\s*(?:[:：.]\s+|[-–—]\s+)"
    r"|(?:first|second|third|fourth|final|last)(?:ly)?\s*[,:]\s+"
    r"|(?:步骤|指令)\s*#?\d{0,2}\s*[:：]\s*)",
    re.IGNORECASE,
)
_BOLD = re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1")
_INLINE = (
    re.compile(r"(?:\A|(?<=[\s;,.，；。、]))\(?(\d{1,2})(?:[.)．）、]|:(?!\d)|：)(?!\d)\s*"),
    re.compile(r"(?:\A|(?<=[\s;,.，；。、]))\(?([a-h])\)\s+", re.IGNORECASE),
)
_CIRCLED = re.compile(r"(?<!\A)(?=[②③④⑤⑥⑦⑧⑨⑩])")
_WHOLE = re.compile(r"([\"“„«「])([^\"“”„«»「」]+)([\"”“»」])[.。]?")
_MARKED = re.compile(r"([`*_])([^`*_]+)\1")
_ENDS = {'"': '"', "“": "”", "„": "“”", "«": "»", "「": "」"}


@dataclass(frozen=True)
class Instructions:
    """What an editor gets; `notes` has an entry for each sentence left out, and one for cleaning."""

    kept: tuple[str, ...]
    notes: tuple[str, ...] = ()


def instructions_of(given: Iterable[str], most: int, *, flawless: bool = False) -> Instructions:
    """Clean instructions, at most `most` of them, from what a critic wrote.

    Of a critic that named no flaw (`flawless`) only what is known to be an order is kept: few contradict
    themselves so, and most sentences beside an empty list say in some way that all is well.
    An empty text stays one: it is for its reader to refuse.
    """
    given = list(given)
    found = [part for one in given for part in separated(one) or [""]]
    notes = [SPLIT] if len(found) > len(given) else []
    if not notes and found != [" ".join(one.split()) for one in given]:
        notes = [NUMBERED]
    kept: list[str] = []
    for one in found:
        if asks_for_nothing(one) or (flawless and not (asks_for_something(one) or asks_anew(one))):
            notes.append(NO_CHANGE)
        elif asks_anew(one):
            notes.append(ANEW)
        else:
            kept.append(one)
    notes += [SURPLUS] * max(0, len(kept) - most)
    return Instructions(tuple(kept[:most]), tuple(notes))


def separated(text: str) -> list[str]:
    """The instructions in one text, each without number, bullet or label."""
    lines = _CIRCLED.sub("\n", text.replace("\r", "\n")).split("\n")
    parts = (part for line in lines for run in _numbered(line) for part in _joined(run))
    return [clean for part in parts if (clean := _clean(part))]


def _numbered(line: str) -> Iterator[str]:
    """The runs between 1., 2., ... or a), b), ... where a line counts up from its beginning."""
    starts: list[int] = []
    for pattern in _INLINE:
        if len(starts) < 2:
            starts = []
            for found in pattern.finditer(line):
                place = int(found[1]) if found[1].isdigit() else ord(found[1].lower()) - ord("a") + 1
                if place == len(starts) + 1 and (starts or not line[: found.start()].strip(" -*•([")):
                    starts.append(found.start())
    if len(starts) < 2:
        yield line
        return
    for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
        yield line[start:end]


def _joined(line: str) -> Iterator[str]:
    """The parts between semicolons that are in no quotation, where each of them is an order by itself.

    A remark, or what is to stay, belongs to the order beside it: "Keep the cat; remove the dog".
    """
    quoted = [found.span() for found in QUOTED.finditer(line)]
    parts, start = [], 0
    for found in re.finditer(r"[;；]", line):
        if not any(left < found.start() < right for left, right in quoted):
            parts.append(line[start : found.start()])
            start = found.end()
    parts.append(line[start:])
    whole = any(is_remark(part) for part in parts if part.strip())
    yield from [line] if whole else parts


def _clean(text: str) -> str:
    """Once cleaned, a text stays as it is."""
    before = None
    while before != text:
        before = text
        text = " ".join(_BOLD.sub(r"\2", _PREFIX.sub("", text)).split()).rstrip(";；,，、 ")
        marked = _MARKED.fullmatch(text)
        text = marked[2].strip() if marked else text
        whole = _WHOLE.fullmatch(text)
        text = whole[2].strip() if whole and whole[3] in _ENDS[whole[1]] else text
    return text

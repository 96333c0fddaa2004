"""Whether an instruction asks for anything that an editor can do: no change asked for, or another picture.

A sentence of no change that reached an editor would become a pair whose loser is as good as its winner, or
better. So it is told by what it means, clause by clause, in the languages of `tongues`; a clause that asks
for a change keeps the whole instruction, as it stands.
"""

import re
import unicodedata

from rpo_cli.stages.tongues import TONGUES, Tongue

LONGEST = 1000  # characters that are looked at; an instruction is far shorter
QUOTED = re.compile(
    r"\"[^\"]*\"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|「[^」]*」|『[^』]*』|《[^》]*》|‘[^’]*’(?!\w)|(?<!\w)'[^']*'(?!\w)"
)
_WHOLE = re.compile(r"\s*[\"“„«「'‘*_`]+(?P<inside>[^\"“”„«»「」]*?)[\"“”»」'’*_`.]+\s*")
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
    whole = _WHOLE.fullmatch(text)
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

"""What people write for "this one is better": words, places, shares of votes, ranks."""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any, Literal

from rpo_cli.errors import UsageError
from rpo_cli.exchange.incoming import Choice, Vote
from rpo_cli.exchange.raw_rows import BadRow

# how a winner column is to be read: by its words; places from 0 or from 1; the share that prefers the first
Code = Literal["words", "0", "1", "share"]
FIRST = frozenset(["a", "left", "l", "first", "chosen", "1st"])
SECOND = frozenset(["b", "right", "r", "second", "rejected", "2nd"])
TIE = frozenset(
    ["tie", "tied", "equal", "same", "draw", "both", "neither", "both_good", "both_bad", "bothbad"]
)
# what stands beside such a word: "Image A", "model_b", "the left one is better"
AROUND = re.compile(
    r"^(the_)?((image|img|picture|pic|photo|jpg|model|option|response|candidate|output)_?)?"
    r"(?P<word>[a-z]+|[0-9](st|nd)?)(_(image|picture|one|side))?(_(is_better|wins|better))?$"
)
GOOD = frozenset(
    [
        "good",
        "like",
        "liked",
        "desirable",
        "yes",
        "y",
        "true",
        "up",
        "positive",
        "accept",
        "accepted",
        "pass",
        "win",
    ]
)
BAD = frozenset(
    [
        "bad",
        "dislike",
        "disliked",
        "undesirable",
        "no",
        "n",
        "false",
        "down",
        "negative",
        "reject",
        "rejected",
        "fail",
        "lose",
    ]
)
TELLS = {
    "words": "left/right, a/b and the like",
    "0": "the place of the better picture: 0 the first, 1 the second",
    "1": "the place of the better picture: 1 the first, 2 the second",
    "share": "the share of votes for the first picture",
}


def blank(value: Any) -> bool:
    """Whether nothing stands there: no value, NaN, or an empty text."""
    nan = isinstance(value, float) and math.isnan(value)
    return value is None or nan or (isinstance(value, str) and not value.strip())


def _folded(value: str) -> str:
    return "_".join(value.strip().casefold().replace("-", " ").split())


def number(value: Any) -> float | None:
    """A number, or a text that is one; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def word(value: Any) -> Choice | None:
    """The choice that a word says; None where it is none of ours."""
    said = _bare(value)
    return "a" if said in FIRST else "b" if said in SECOND else "tie" if said in TIE else None


def _bare(value: Any) -> str:
    """The word of a value that says a side: "a" of "Image A", "1" of "image_1"."""
    said = _folded(value) if isinstance(value, str) else ""
    found = None if said in TIE else AROUND.match(said)
    return found["word"] if found else said


def _place(value: Any) -> float | None:
    """The number of a value that names a place: 1 of "image_1", of "1" and of 1."""
    said = _bare(value)
    return float(said) if said.isdigit() else number(value)


def code_of(column: str, values: Iterable[Any]) -> Code:
    """How a winner column is written, by all of its values.

    Raises:
        UsageError: numbers that could be read in two ways, or in none.
    """
    found: set[float] = set()
    for value in values:
        if _percent(value) is not None:
            return "share"
        found |= {n for n in [_place(value)] if n is not None}
    if not found:
        return "words"
    if any(not n.is_integer() for n in found) and all(0 <= n <= 1 for n in found):
        return "share"
    if found in ({0.0}, {0.0, 1.0}):
        return "0"
    if found in ({2.0}, {1.0, 2.0}):
        return "1"
    shown = ", ".join(f"{n:g}" for n in sorted(found)[:5])
    raise UsageError(
        f"column '{column}': {shown} does not say which picture is better",
        f"say how it counts: --map winner0={column} (0: the first), winner1={column} (1: the first), "
        f"or share={column} (of votes for the first, 0 to 1)",
    )


def winner(value: Any, code: Code, column: str) -> tuple[Choice | None, float | None]:
    """(choice, share of votes for the first where it is a share) of one value of a winner column.

    Raises:
        BadRow: a value that says none of these.
    """
    if blank(value):
        return None, None
    if (choice := word(value)) is not None:
        return choice, None
    found = _place(value)
    if code == "share":
        return shares(value, None)
    if code in ("0", "1") and found is not None and found - int(code) in (0, 1):
        return ("a" if found == int(code) else "b"), None
    raise BadRow("bad_label", f"{column}: {value!r:.80} does not say which picture is better")


def shares(first: Any, second: Any = None) -> tuple[Choice | None, float | None]:
    """Labels of two sides (1/0 win, 0/1 loss, equal: tie) as a choice, and the share of a, if it is soft.

    A share of votes, .7 and .3 or 70 %, keeps its number; a word (left, b) is understood.

    Raises:
        BadRow: a label that is no number in [0, 1] and no word.
    """
    told = [word(value) for value in (first, second)]
    if told[0] is not None and (told[1] is None or told[0] == told[1]):
        return told[0], None
    a, b = _share(first), _share(second)
    if a is None and b is None:
        return None, None
    a, b = (1 - b if a is None and b is not None else a), (1 - a if b is None and a is not None else b)
    assert a is not None
    assert b is not None
    choice: Choice = "tie" if a == b else "a" if a > b else "b"
    hard = choice == "tie" or {a, b} == {0.0, 1.0}
    return choice, None if hard else a / (a + b)


def counted(first: Any, second: Any) -> tuple[Any, Any]:
    """Labels of two sides; counts of votes, 7 and 3, as the shares .7 and .3."""
    a, b = number(first), number(second)
    if a is None or b is None or not (a.is_integer() and b.is_integer()):
        return first, second
    return (a / (a + b), b / (a + b)) if min(a, b) >= 0 and max(a, b) > 1 else (first, second)


def _percent(value: Any) -> float | None:
    """.7 of "70 %"; None for anything else."""
    text = value.strip() if isinstance(value, str) else ""
    found = number(text[:-1]) if text.endswith("%") else None
    return None if found is None else found / 100


def _share(value: Any) -> float | None:
    if blank(value):
        return None
    if (found := _percent(value)) is not None and 0 <= found <= 1:
        return found
    said = {"true": True, "false": False}.get(_folded(value)) if isinstance(value, str) else value
    found = float(said) if isinstance(said, bool) else number(value)
    if found is None or not 0 <= found <= 1:
        raise BadRow("bad_label", f"label {value!r:.80}, neither in [0, 1] nor left/right, a/b")
    return found


def verdict_of(value: Any, column: str) -> float | None:
    """1 for a good picture, 0 for a bad one, None where nobody has judged it.

    Raises:
        BadRow: a value that says neither.
    """
    if blank(value):
        return None
    said = _folded(value) if isinstance(value, str) else ""
    found = float(value) if isinstance(value, bool) else number(value)
    if said in GOOD or found == 1:
        return 1.0
    if said in BAD or found in (0, -1):
        return 0.0
    raise BadRow("bad_label", f"{column}: {value!r:.80} says neither good nor bad")


def rank_votes(ranks: Sequence[Any], count: int) -> Iterator[Vote]:
    """A vote for each two pictures; equal ranks are a tie, 1 is best.

    Raises:
        BadRow: another number of ranks than pictures, or a rank that is no number.
    """
    places = [found for rank in ranks if (found := number(rank)) is not None]
    if not len(places) == len(ranks) == count:
        raise BadRow("bad_label", f"{count} pictures and ranks {ranks!r:.100}")
    for a, b in combinations(range(count), 2):
        choice: Choice = "tie" if places[a] == places[b] else "a" if places[a] < places[b] else "b"
        yield Vote(a, b, choice)

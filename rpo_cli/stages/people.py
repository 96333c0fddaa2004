"""What people have said in `rpo review`: entries → the verdicts that stand → one opinion per pair.

Pure functions of rows of `verdicts`; the order of the rows has no say. Verdicts join pairs on prompt and
pictures, as all tables do, so they outlive a pair that is built anew.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Literal

Said = Literal["a", "b", "tie", "reject"]
Row = Mapping[str, Any]
Subject = tuple[str, frozenset[str]]  # prompt_id and the hashes of both pictures

VERDICT_COLUMNS = (
    *("verdict_id", "pair_id", "choice", "reviewer", "number"),
    *("prompt_id", "a_sha256", "b_sha256", "left", "repeat"),
)


def subject(row: Row) -> Subject:
    """What a verdict is about."""
    return row["prompt_id"], frozenset((row["a_sha256"], row["b_sha256"]))


def standing(rows: Iterable[Row]) -> list[Row]:
    """The verdicts that count, by reviewer: the last entry of each showing, if it is a verdict."""
    last: dict[tuple[str, Subject, bool], Row] = {}
    for row in sorted(rows, key=lambda row: (row["reviewer"], row["number"], row["verdict_id"])):
        last[row["reviewer"], subject(row), row["repeat"]] = row
    return [row for row in last.values() if row["choice"] not in ("skip", "undo")]


def picked(row: Row) -> str:
    """The hash of the preferred picture, "tie" or "reject": what does not change with the sides' names."""
    side = row["choice"]
    return str(row[f"{side}_sha256"]) if side in ("a", "b") else str(side)


def votes(rows: Iterable[Row]) -> dict[Subject, dict[str, str]]:
    """Subject → reviewer → what was picked; contradicting oneself at the repeat is preferring neither."""
    found: dict[Subject, dict[str, str]] = defaultdict(dict)
    for row in standing(rows):
        vote, mine = picked(row), found[subject(row)]
        mine[row["reviewer"]] = vote if mine.get(row["reviewer"], vote) == vote else "tie"
    return dict(found)


def consensus(rows: Iterable[Row]) -> dict[Subject, str]:
    """Subject → what most reviewers picked; an even vote is a tie.

    More than half must find a pair of no use to reject it; of the others' votes, ties count for neither.
    """
    return {about: _majority(list(given.values())) for about, given in votes(rows).items()}


def _majority(given: list[str]) -> str:
    counts = Counter(given)
    if 2 * counts["reject"] > len(given):
        return "reject"
    sides = [(count, side) for side, count in counts.items() if side not in ("tie", "reject")]
    if not sides:
        return "tie"
    most, side = max(sides)
    return side if [count for count, _ in sides].count(most) == 1 else "tie"


def opinion_on(opinions: Mapping[Subject, str], prompt_id: str, a: str, b: str) -> Said | None:
    """The opinion about two pictures in the names of their sides; None where nobody has judged them."""
    opinion = opinions.get((prompt_id, frozenset((a, b))))
    if opinion is None:
        return None
    names: dict[str, Said] = {a: "a", b: "b", "reject": "reject"}
    return names.get(opinion, "tie")

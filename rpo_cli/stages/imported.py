"""Pairs that came with a judgement: of two pictures, or of each picture alone.

Where people have judged, their judgements alone count and the pair is of kind human.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from rpo_cli.records import canonical_json

if TYPE_CHECKING:
    from rpo_cli.stages.pairs import Candidate, Picture, _World

Row = Mapping[str, Any]
Sides = tuple[str, frozenset[str]]  # prompt_id and the hashes of both pictures


def pairs(tables: Mapping[str, Sequence[Row]], world: "_World") -> Iterator["Candidate"]:
    """Each two pictures that a source has judged, once, with what most judgements say; even: a tie.

    Pictures that were judged alone are paired where one stands higher than another of its prompt, and
    nothing has judged the two together.
    """
    rows = tables.get("preferences", ())
    together = _together(rows)
    for (prompt_id, sides), votes in together.items():
        first = _pictures(world, prompt_id)
        if not sides <= first.keys():
            continue
        by_people = [row for row in votes if row["judged_by"] == "human"]
        a, b = sorted((first[min(sides)], first[max(sides)]))
        share = _share(by_people or votes, a.sha256)
        label: Literal["a", "b", "tie"] | None
        label = None if share is None else "tie" if share == 0.5 else "a" if share > 0.5 else "b"
        kind: Literal["human", "import"] = "human" if by_people else "import"
        rich = next((text for row in sorted(votes, key=_key) if (text := _told(row, a.sha256))), None)
        yield world.pair(kind, a, b, 1, label=label, share=share, rich=rich)
    yield from _alone(rows, together, world)


def _key(row: Row) -> str:
    return str(row.get("preference_id"))


def _together(rows: Sequence[Row]) -> dict[Sides, list[Row]]:
    found: dict[Sides, list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("standing") is None:
            found[row["prompt_id"], frozenset((row["a_sha256"], row["b_sha256"]))].append(row)
    return found


def _alone(
    rows: Sequence[Row], together: Mapping[Sides, Sequence[Row]], world: "_World"
) -> Iterator["Candidate"]:
    """Any two pictures of a prompt of which one stands higher than the other, by their mean standings."""
    said: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row.get("standing") is not None:
            said[row["prompt_id"]][row["a_sha256"]].append(row)
    for prompt_id, pictures in said.items():
        first = _pictures(world, prompt_id)
        known = sorted(first[sha256] for sha256 in pictures if sha256 in first)
        for a, b in combinations(known, 2):
            if a.sha256 == b.sha256 or (prompt_id, frozenset((a.sha256, b.sha256))) in together:
                continue
            votes = [pictures[side.sha256] for side in (a, b)]
            places = [fmean(row["standing"] for row in sorted(rows, key=_key)) for rows in votes]
            if places[0] != places[1]:
                people = all(row["judged_by"] == "human" for rows in votes for row in rows)
                better: Literal["a", "b"] = "a" if places[0] > places[1] else "b"
                yield world.pair("human" if people else "import", a, b, 1, label=better)


def _pictures(world: "_World", prompt_id: str) -> dict[str, "Picture"]:
    return {picture.sha256: picture for picture in reversed(world.images.get(prompt_id, []))}


def _share(votes: Sequence[Row], a: str) -> float | None:
    """The share of the judgements that prefers the picture with hash `a`; None where no one has answered.

    A tie is half a vote for each; even counts give exactly .5.
    """
    shares = [_preferring(vote, a) for vote in sorted(votes, key=_key) if vote["choice"] is not None]
    return round(fmean(shares), 12) if shares else None


def _preferring(vote: Row, a: str) -> float:
    share = vote.get("share")
    if share is None:
        share = {"a": 1.0, "b": 0.0, "tie": 0.5}[vote["choice"]]
    return float(share if vote["a_sha256"] == a else 1 - share)


def _told(row: Row, a: str) -> str | None:
    """What stood beside a judgement, with the sides named as the pair names them."""
    rich = row.get("rich")
    if rich is None or row["a_sha256"] == a:
        return rich
    return swapped(rich)


def swapped(rich: str) -> str:
    """JSON of a pair with its sides' names exchanged."""
    names = {"a": "b", "b": "a"}
    found = json.loads(rich)
    told = {
        name[:-1] + names[name[-1]] if name.endswith(("_a", "_b")) else name: value
        for name, value in found.items()
    }
    for name in ("edited", "human_label", "winner"):
        if told.get(name) in names:
            told[name] = names[told[name]]
    return canonical_json(told)

"""How a scene that is seen differs from the one wanted, and the short instructions that mend it.
Standard library only.

Seen things stand for wanted ones by best assignment. To add an aspect: a line in `flaws` and its
edit in `plan`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from rpo_cli.shapes.edits import SceneEdit
from rpo_cli.shapes.grammar import UNKNOWN, Scene, Thing, relation_of_slots, slots

_KIND_ORDER = ("remove", "reshape", "recolour", "resize")


@dataclass(frozen=True)
class Mismatch:
    """One attribute that differs. `object_index` counts the wanted things; None for count,
    relation, background.
    """

    aspect: str
    object_index: int | None
    wanted: str
    seen: str


_WEIGHTS = {"shape": 1.0, "colour": 1.1, "size": 0.7}


def _mismatch(seen: Thing, wanted: Thing) -> float:
    return sum(w for name, w in _WEIGHTS.items() if getattr(seen, name) != getattr(wanted, name))


def _relation_under(seen: Scene, match: tuple[int | None, ...]) -> str | None:
    """The relation of the seen things in the order of the wanted ones; None without two matched,
    placed things.
    """
    places = slots(seen)
    if len(match) != 2 or None in match:
        return None
    return relation_of_slots(places[match[0] or 0], places[match[1] or 0])


def assign(seen: Scene, wanted: Scene) -> tuple[int | None, ...]:
    """For each wanted thing the index of the seen thing that stands for it, by least mismatch; None
    when too few.
    """
    pool = [*range(len(seen.things)), *([None] * max(0, len(wanted.things) - len(seen.things)))]

    def cost(match: tuple[int | None, ...]) -> float:
        pairs = zip(match, wanted.things, strict=True)
        total = sum(_mismatch(seen.things[i], thing) for i, thing in pairs if i is not None)
        wrong = len(wanted.things) == 2 and _relation_under(seen, match) != wanted.relation
        return total + 0.6 * wrong

    return min(itertools.permutations(pool, len(wanted.things)), key=cost)


def flaws(seen: Scene, wanted: Scene) -> list[Mismatch]:
    """Every attribute in which `seen` differs from `wanted`, most important first (count, shape,
    colour, ...).
    """
    match, found = assign(seen, wanted), []
    if len(seen.things) != len(wanted.things):
        found.append(Mismatch("count", None, str(len(wanted.things)), str(len(seen.things))))
    for aspect in ("shape", "colour", "size"):
        for index, at in enumerate(match):
            want = getattr(wanted.things[index], aspect)
            have = getattr(seen.things[at], aspect) if at is not None else want
            if have != want:
                found.append(Mismatch(aspect, index, want, have))
    if len(wanted.things) == 1 == len(seen.things) and wanted.position not in (None, seen.position):
        found.append(Mismatch("position", 0, wanted.position or "", seen.position or UNKNOWN))
    if len(wanted.things) == 2 == len(seen.things):
        relation = _relation_under(seen, match)
        if wanted.relation not in (None, relation):
            found.append(Mismatch("relation", None, wanted.relation or "", relation or UNKNOWN))
    if seen.background != wanted.background:
        found.append(Mismatch("background", None, wanted.background, seen.background))
    return found


def plan(seen: Scene, wanted: Scene) -> list[SceneEdit]:
    """The edits that turn `seen` into `wanted`, most important first; their indices count the
    things of `seen`.
    """
    match = assign(seen, wanted)
    edits = [SceneEdit("remove", index) for index in range(len(seen.things)) if index not in match]
    for index, at in enumerate(match):
        if at is not None:
            edits += _plan_thing(seen.things[at], wanted.things[index], at)
    edits.sort(key=lambda edit: _KIND_ORDER.index(edit.kind))
    edits += _plan_places(seen, wanted, match)
    if seen.background != wanted.background:
        edits.append(SceneEdit("background", value=wanted.background))
    return edits


def _plan_thing(seen: Thing, wanted: Thing, at: int) -> list[SceneEdit]:
    """At most one edit for one thing: two wrong attributes are one "turn the ... into ..."."""
    wrong = [name for name in ("size", "colour", "shape") if getattr(seen, name) != getattr(wanted, name)]
    if len(wrong) > 1 or wrong == ["shape"]:
        words = [getattr(wanted, name) for name in ("size", "colour") if name in wrong]
        return [SceneEdit("reshape", at, " ".join([*words, wanted.shape]))]
    kinds = {"colour": "recolour", "size": "resize"}
    return [SceneEdit(kinds[name], at, getattr(wanted, name)) for name in wrong]


def _plan_places(seen: Scene, wanted: Scene, match: tuple[int | None, ...]) -> list[SceneEdit]:
    missing = [index for index, old in enumerate(match) if old is None]
    if missing:
        places = slots(wanted)
        return [SceneEdit("add", value=places[i], thing=wanted.things[i]) for i in missing]
    if len(wanted.things) == 2 and _relation_under(seen, match) != wanted.relation:
        return [SceneEdit("move", match[0], wanted.relation, match[1])]
    now = slots(seen)[match[0] or 0] if len(wanted.things) == 1 else wanted.position
    return [SceneEdit("move", match[0], wanted.position)] if now != wanted.position else []

"""What an instruction does to a scene: say and apply. Random edits are in `draws`, the way from
one scene to another in `towards`.

Standard library only. To add a kind: its sentences in TEMPLATES, its effect in `_EFFECTS`, its
words in `say`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from rpo_cli.shapes.grammar import (
    BACKGROUNDS,
    COLOURS,
    INVERSE,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    article,
    noun,
    relation_of_slots,
    shape_word,
    slots,
)

KINDS = ("recolour", "reshape", "resize", "background", "add", "remove", "move")
JOIN = "; "
# {x} {y}: names of things that are there; {t}: a new thing with article; {p} place, {r} relation,
# {v} new value; {n}: what a thing becomes, with article: a shape, with a colour or size before it
# where these change too.
TEMPLATES: dict[str, tuple[str, ...]] = {
    "recolour": ("make the {x} {v}", "change the color of the {x} to {v}"),
    "reshape": ("turn the {x} into {n}", "change the {x} to {n}"),
    "resize": ("make the {x} {v}", "change the size of the {x} to {v}"),
    "background": ("make the background {v}", "change the background to {v}"),
    "add": ("add {t} on the {p}", "put {t} on the {p}"),
    "remove": ("remove the {x}", "delete the {x}"),
    "place": ("move the {x} to the {p}", "put the {x} in the {p}"),
    "swap": ("move the {x} {r} the {y}", "put the {x} {r} the {y}"),
}
OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}


@dataclass(frozen=True)
class SceneEdit:
    """One change. `target` and `other` are indices of things; `value` is the new attribute, place
    or relation.
    """

    kind: str
    target: int | None = None
    value: str | None = None
    other: int | None = None
    thing: Thing | None = None


@dataclass(frozen=True)
class Change:
    """The scene after an edit; `origin[i]` is the index that thing i had before, None for a new
    thing.
    """

    scene: Scene
    origin: tuple[int | None, ...]


# ---- effects -------------------------------------------------------------------------------------


def _with_thing(scene: Scene, edit: SceneEdit, **values: str) -> Change:
    things = list(scene.things)
    things[edit.target or 0] = replace(things[edit.target or 0], **values)
    return Change(replace(scene, things=tuple(things)), tuple(range(len(things))))


def attributes(words: str) -> dict[str, str]:
    """What "small green triangle" or a part of it says: attribute -> value."""
    kinds = {"size": SIZES, "colour": COLOURS, "shape": SHAPES}
    return {kind: word for word in words.split() for kind, names in kinds.items() if word in names}


def _add(scene: Scene, edit: SceneEdit) -> Change:
    assert edit.thing is not None
    assert edit.value is not None
    if not scene.things:
        return Change(replace(scene, things=(edit.thing,), position=edit.value), (None,))
    relation = relation_of_slots(OPPOSITE[edit.value], edit.value)
    things = (*scene.things, edit.thing)
    return Change(Scene(things, scene.background, relation=relation), (0, None))


def _remove(scene: Scene, edit: SceneEdit) -> Change:
    keep = tuple(i for i in range(len(scene.things)) if i != edit.target)
    position = slots(scene)[keep[0]] if len(keep) == 1 else None
    things = tuple(scene.things[i] for i in keep)
    return Change(Scene(things, scene.background, position=position), keep)


def _move(scene: Scene, edit: SceneEdit) -> Change:
    everything = tuple(range(len(scene.things)))
    if edit.other is None:
        return Change(replace(scene, position=edit.value), everything)
    assert edit.value is not None
    relation = edit.value if edit.target == 0 else INVERSE[edit.value]
    return Change(replace(scene, relation=relation), everything)


_EFFECTS: dict[str, Callable[[Scene, SceneEdit], Change]] = {
    "recolour": lambda scene, edit: _with_thing(scene, edit, colour=edit.value or ""),
    "reshape": lambda scene, edit: _with_thing(scene, edit, **attributes(edit.value or "")),
    "resize": lambda scene, edit: _with_thing(scene, edit, size=edit.value or ""),
    "background": lambda scene, edit: Change(
        replace(scene, background=edit.value or ""), tuple(range(len(scene.things)))
    ),
    "add": _add,
    "remove": _remove,
    "move": _move,
}


def apply_edit(scene: Scene, edit: SceneEdit) -> Change:
    """The scene after the edit. The edit must fit the scene (`apply_instruction` checks that, this
    does not).
    """
    return _EFFECTS[edit.kind](scene, edit)


# ---- words ---------------------------------------------------------------------------------------


def refer(scene: Scene, index: int, full: bool = False) -> str:
    """The shortest name that tells thing `index` from the others: "red circle", "small red circle"
    or "left red circle".
    """
    thing, others = scene.things[index], [t for i, t in enumerate(scene.things) if i != index]
    plain = f"{thing.colour} {shape_word(thing.shape)}"
    twins = [t for t in others if (t.shape, t.colour) == (thing.shape, thing.colour)]
    if not twins:
        return noun(thing) if full else plain
    if all(t.size != thing.size for t in twins):
        return noun(thing)
    place = slots(scene)[index]
    return f"{place} {plain}" if place else noun(thing)


def say(scene: Scene, edit: SceneEdit, variant: int = 0, full: bool = False) -> str:
    """The edit in words, naming things as they are in `scene`; under 12 words. `variant` is 0 or 1.

    With `full` things are named with their size even where that is not needed (then up to 14
    words).
    """
    kind = ("place" if edit.other is None else "swap") if edit.kind == "move" else edit.kind
    words = {"v": edit.value, "p": edit.value, "r": edit.value}
    if edit.kind == "reshape":
        words["n"] = article(edit.value or "")
    if edit.target is not None:
        words["x"] = refer(scene, edit.target, full)
    if edit.other is not None:
        words["y"] = refer(scene, edit.other, full)
    if edit.thing is not None:
        words["t"] = article(noun(edit.thing))
    return TEMPLATES[kind][variant].format(**words)


VALUES = {
    "recolour": tuple(COLOURS),
    "reshape": SHAPES,
    "resize": SIZES,
    "background": tuple(BACKGROUNDS),
}


def instruction_words() -> str:
    """Every word that an instruction may hold, in one string."""
    sentences = [*itertools.chain.from_iterable(TEMPLATES.values()), *OPPOSITE, JOIN]
    return " ".join(re.sub(r"\{\w+\}", " ", part) for part in sentences)


def apply_all(scene: Scene, edit_list: list[SceneEdit]) -> Change | None:
    """All edits one after the other, their indices counting the things of `scene`; None when one
    fits no more.
    """
    origin: tuple[int | None, ...] = tuple(range(len(scene.things)))
    for edit in edit_list:
        named = [index for index in (edit.target, edit.other) if index is not None]
        if not set(named) <= set(origin) or (edit.kind == "add" and len(scene.things) > 1):
            return None
        target, other = (None if i is None else origin.index(i) for i in (edit.target, edit.other))
        if edit.kind == "move" and len(scene.things) != (1 if other is None else 2):
            return None
        change = apply_edit(scene, replace(edit, target=target, other=other))
        scene = change.scene
        origin = tuple(None if i is None else origin[i] for i in change.origin)
    return Change(scene, origin)

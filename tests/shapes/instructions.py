"""The words of an edit read back (the way back of `shapes/edits`), and what tests ask of scenes."""

import functools
import random
import re

from rpo_cli.shapes.edits import JOIN, OPPOSITE, TEMPLATES, VALUES, SceneEdit, apply_all, say
from rpo_cli.shapes.grammar import (
    COLOURS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    alternatives,
    canonical,
    slots,
)
from rpo_cli.shapes.oracle import Reading, compare
from rpo_cli.shapes.recipe.draws import draw_edits
from rpo_cli.shapes.towards import plan

ASPECTS = ("count", "shape", "colour", "size", "position", "relation", "background")


def same(one: Scene, other: Scene) -> bool:
    """Whether two scenes mean the same (a left of b is b right of a)."""
    return canonical(one) == canonical(other)


def sample_edit(scene: Scene, rng: random.Random) -> tuple[str, Scene, str]:
    """(instruction, scene after it, kind): a random edit in random words that leaves no two
    identical things.
    """
    (edit,), change = draw_edits(scene, rng, 1)
    return say(scene, edit, rng.randrange(2)), change.scene, edit.kind


def edits_towards(seen: Scene, wanted: Scene) -> list[str]:
    """Instructions (each < 12 words, most important first) that turn `seen` into `wanted`.

    Every one is worded on `seen`, so each stands alone, and joined by "; " they make one instruction
    (`apply_instruction`). An empty list means that nothing is wrong.
    """
    return [say(seen, edit) for edit in plan(seen, wanted)]


def fully_right(reading: Reading, wanted: Scene) -> bool:
    """Whether the picture shows exactly the wanted scene."""
    return all(compare(reading, wanted).values())


@functools.cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(kind, pattern) for every sentence; the named groups carry the words."""
    sides = tuple(OPPOSITE)
    size, colour, shape = alternatives(SIZES), alternatives(COLOURS), alternatives(SHAPES)
    name = f"(?:{alternatives((*SIZES, *sides))} )?{colour} {alternatives((*SHAPES, 'shape'))}"
    found = []
    for kind, sentences in TEMPLATES.items():
        places = sides if kind == "add" else POSITIONS
        parts = {
            "x": f"(?P<x>{name})",
            "y": f"(?P<y>{name})",
            "t": f"an? (?P<t>{size} {colour} {shape})",
            "n": f"an? (?P<v>(?:{size} )?(?:{colour} )?{shape})",
            "p": f"(?P<p>{'|'.join(places)})",
            "r": f"(?P<r>{'|'.join(RELATIONS)})",
            "v": f"(?P<v>{'|'.join(VALUES.get(kind, ('-',)))})",
        }
        found += [(kind, re.compile(sentence.format(**parts))) for sentence in sentences]
    return tuple(found)


def find(scene: Scene, name: str) -> int | None:
    """The index of the one thing that `name` fits; None when it fits none or several."""
    *first, colour, shape = name.split()
    places = slots(scene)
    fits = [
        i
        for i, thing in enumerate(scene.things)
        if thing.colour == colour
        and shape in (thing.shape, "shape")
        and (not first or first[0] in (thing.size, places[i]))
    ]
    return fits[0] if len(fits) == 1 else None


def parse_instruction(scene: Scene, instruction: str) -> SceneEdit | None:
    """The edit that one instruction (no joins) means on `scene`; None when no sentence or name of
    it fits.
    """
    text = " ".join(instruction.lower().split()).rstrip(".")
    for kind, pattern in _patterns():
        match = pattern.fullmatch(text)
        if match:
            return _edit_of(scene, kind, match.groupdict())
    return None


def _edit_of(scene: Scene, kind: str, words: dict[str, str]) -> SceneEdit | None:
    if kind == "background":
        return SceneEdit(kind, value=words["v"])
    if kind == "add":
        size, colour, shape = words["t"].split()
        return SceneEdit(kind, value=words["p"], thing=Thing(shape, colour, size))
    target = find(scene, words["x"])
    if target is None:
        return None
    if kind == "place":
        return SceneEdit("move", target, words["p"])
    if kind == "swap":
        other = find(scene, words["y"])
        fits = other is not None and other != target
        return SceneEdit("move", target, words["r"], other) if fits else None
    return SceneEdit(kind, target, words.get("v"))


def parse_all(scene: Scene, instruction: str) -> list[SceneEdit] | None:
    """The edits of one or several (joined by "; ") instructions, each worded on `scene`; None when
    one means nothing.
    """
    parsed = [parse_instruction(scene, part.strip()) for part in instruction.split(JOIN.strip())]
    return None if None in parsed else [edit for edit in parsed if edit is not None]


def apply_instruction(scene: Scene, instruction: str) -> Scene | None:
    """The scene after one or several (joined by "; ") instructions, all worded on `scene`; None if
    one fits not.
    """
    edit_list = parse_all(scene, instruction)
    change = apply_all(scene, edit_list) if edit_list else None
    return change.scene if change else None

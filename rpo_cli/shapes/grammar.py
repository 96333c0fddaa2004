"""Scenes, their captions and the split. Standard library only; no picture here (`render`), no edit
(`edits`).

A scene has one thing with a position or two things with a relation (`things[0] RELATION
things[1]`).
To add a colour: one line in COLOURS, well away from every other colour and background; then train
anew.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

Rgb = tuple[int, int, int]

SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star")
COLOURS: dict[str, Rgb] = {
    "red": (214, 36, 44),
    "orange": (246, 132, 18),
    "yellow": (250, 218, 44),
    "green": (34, 152, 68),
    "blue": (36, 92, 222),
    "purple": (134, 48, 172),
}
SIZES: tuple[str, ...] = ("small", "large")
BACKGROUNDS: dict[str, Rgb] = {
    "white": (250, 250, 250),
    "black": (20, 20, 24),
    "grey": (150, 153, 158),
    "tan": (216, 192, 154),
}
POSITIONS: tuple[str, ...] = ("left", "right", "top", "bottom", "center")
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
INVERSE: dict[str, str] = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
}
SLOTS: dict[str, tuple[str, str]] = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
UNKNOWN = "unknown"
CAPTION_VARIANTS = 4
SPLITS: tuple[str, ...] = ("train", "dev", "test")


@dataclass(frozen=True, order=True)
class Thing:
    """One object. `shape` may be UNKNOWN in what was read from a picture, never in what is asked
    for.
    """

    shape: str
    colour: str
    size: str


@dataclass(frozen=True)
class Scene:
    """What a picture shows. One thing has a `position`, two have a `relation`; read pictures may
    hold 0 to 4 things.
    """

    things: tuple[Thing, ...]
    background: str
    relation: str | None = None
    position: str | None = None


def canonical(scene: Scene) -> Scene:
    """The same scene in the one form used for comparing: `left of` and `above` only."""
    if len(scene.things) == 2 and scene.relation in ("right of", "below"):
        return replace(scene, things=scene.things[::-1], relation=INVERSE[scene.relation])
    return scene


def slots(scene: Scene) -> tuple[str | None, ...]:
    """The place of each thing, as a name of POSITIONS; None where the scene does not say."""
    if len(scene.things) == 2 and scene.relation is not None:
        return SLOTS[scene.relation]
    if len(scene.things) == 1:
        return (scene.position,)
    return (None,) * len(scene.things)


def relation_of_slots(first: str | None, second: str | None) -> str | None:
    """The relation of two places, None when they are not on one axis."""
    return next((name for name, pair in SLOTS.items() if pair == (first, second)), None)


def swapped(scene: Scene) -> Scene:
    """The same two-thing scene told from the other thing; other scenes unchanged."""
    if len(scene.things) != 2 or scene.relation is None:
        return scene
    return replace(scene, things=scene.things[::-1], relation=INVERSE[scene.relation])


def split_of(scene: Scene) -> str:
    """train, dev or test (about 80/10/10) by the sha256 of the canonical attribute combination."""
    form = canonical(scene)
    words = [f"{t.size} {t.colour} {t.shape}" for t in form.things]
    key = "|".join([*words, form.background, form.relation or "", form.position or ""])
    draw = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % 10
    return {0: "test", 1: "dev"}.get(draw, "train")


def sample_thing(rng: random.Random) -> Thing:
    """A thing with every attribute drawn evenly."""
    return Thing(rng.choice(SHAPES), rng.choice(tuple(COLOURS)), rng.choice(SIZES))


def sample_any(rng: random.Random, count: int | None = None) -> Scene:
    """A scene of any split; `count` 1 or 2, drawn evenly when None."""
    background = rng.choice(tuple(BACKGROUNDS))
    first = sample_thing(rng)
    if (count or rng.choice((1, 2))) == 1:
        return Scene((first,), background, position=rng.choice(POSITIONS))
    second = sample_thing(rng)
    while second == first:
        second = sample_thing(rng)
    return Scene((first, second), background, relation=rng.choice(RELATIONS))


def sample_scene(rng: random.Random, split: str, count: int | None = None) -> Scene:
    """A scene of `split`, one or two things in equal shares (or `count`).

    Raises:
        ValueError: `split` is not one of SPLITS.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {SPLITS}")
    wanted = count or rng.choice((1, 2))
    while True:
        scene = sample_any(rng, wanted)
        if split_of(scene) == split:
            return scene


def all_single_scenes() -> Iterator[Scene]:
    """Every one-thing scene, in a fixed order."""
    combos = itertools.product(SHAPES, COLOURS, SIZES, BACKGROUNDS, POSITIONS)
    for shape, colour, size, background, position in combos:
        yield Scene((Thing(shape, colour, size),), background, position=position)


def article(words: str) -> str:
    """`words` with "a" or "an" before them."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def noun(thing: Thing) -> str:
    """The full name of a thing without article: "small red circle"; an unknown shape is a "shape"."""
    return f"{thing.size} {thing.colour} {shape_word(thing.shape)}"


def shape_word(shape: str) -> str:
    """The word for a shape; UNKNOWN is "shape"."""
    return "shape" if shape == UNKNOWN else shape


_AT = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "center": "in the center",
}
_FAR = {
    "left of": "to the left of",
    "right of": "to the right of",
    "above": "above",
    "below": "below",
}


# {a} {b}: things with article, {A} {B}: without; {r}: relation, {R}: long relation; {p}: position,
# {P}: phrase.
_ONE = (
    "{a} {P} of {g} background",
    "on {g} background, {a} {P}",
    "a picture of {a} {P}, {G} background",
    "{A}, {p}, {G} background",
)
_TWO = (
    "{a} {R} {b} on {g} background",
    "on {g} background, {a} is {r} {b}",
    "a picture of {a} {r} {b}, {G} background",
    "{A} {r} {B}, {G} background",
)


def caption(scene: Scene, variant: int = 0) -> str:
    """The scene in words; `parse_caption` is its exact inverse.

    Args:
        scene: one thing with a position or two with a relation, every shape known.
        variant: 0 to CAPTION_VARIANTS - 1; 0 is the plainest sentence, the last is telegraphic.

    Raises:
        ValueError: the scene cannot be said (no position or relation, 0 or more than 2 things).
    """
    words = {"g": article(scene.background), "G": scene.background}
    names = [noun(thing) for thing in scene.things]
    if len(names) == 1 and scene.position is not None:
        words |= {"p": scene.position, "P": _AT[scene.position]}
        words |= {"a": article(names[0]), "A": names[0]}
        return _ONE[variant].format(**words)
    if len(names) == 2 and scene.relation is not None:
        words |= {"r": scene.relation, "R": _FAR[scene.relation]}
        words |= {"a": article(names[0]), "A": names[0], "b": article(names[1]), "B": names[1]}
        return _TWO[variant].format(**words)
    raise ValueError(f"a caption needs one thing with a position or two with a relation: {scene}")


def caption_words() -> str:
    """Every word that a caption may hold, in one string: the text encoder's vocabulary is made from
    it.
    """
    sentences = [*_ONE, *_TWO, *_AT.values(), *_FAR.values()]
    names = [*SHAPES, *COLOURS, *SIZES, *BACKGROUNDS, *POSITIONS, *RELATIONS, "an", "shape"]
    return " ".join([*(re.sub(r"\{\w+\}", " ", part) for part in sentences), *names])


def alternatives(names: tuple[str, ...] | dict[str, Rgb] | dict[str, str]) -> str:
    """A regular expression, without a group of its own, that matches exactly these names."""
    return "(?:" + "|".join(re.escape(name) for name in names) + ")"


@functools.cache
def _pattern(template: str) -> re.Pattern[str]:
    name = " ".join(f"({alternatives(names)})" for names in (SIZES, COLOURS, SHAPES))
    background, far = f"({alternatives(BACKGROUNDS)})", f"({alternatives(tuple(_FAR.values()))})"
    parts = {
        "a": f"an? {name}", "A": name, "b": f"an? {name}", "B": name,
        "g": f"an? {background}", "G": background,
        "r": f"({alternatives(RELATIONS)})", "R": far,
        "p": f"({alternatives(POSITIONS)})", "P": f"({alternatives(tuple(_AT.values()))})",
    }  # fmt: skip
    return re.compile(template.format(**parts))


def parse_caption(text: str) -> Scene | None:
    """The scene that a caption says; None when it is no caption of this world."""
    text = " ".join(text.lower().split()).rstrip(".")
    for variant in range(CAPTION_VARIANTS):
        for template in (_ONE[variant], _TWO[variant]):
            match = _pattern(template).fullmatch(text)
            if match:
                return _scene_of(list(match.groups()), template.startswith("on {g}"))
    return None


def _scene_of(groups: list[str], background_first: bool) -> Scene:
    background = groups.pop(0) if background_first else groups.pop()
    first, rest = groups[:3], groups[3:]
    place = {**{v: k for k, v in _AT.items()}, **{v: k for k, v in _FAR.items()}}.get(rest[0], rest[0])
    thing = Thing(first[2], first[1], first[0])
    if len(rest) == 1:
        return Scene((thing,), background, position=place)
    other = Thing(rest[3], rest[2], rest[1])
    return Scene((thing, other), background, relation=place)

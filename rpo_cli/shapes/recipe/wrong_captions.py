"""Captions that say something else than the picture shows, as many of the web do. Standard library only.

A text-to-image model that learns from a share of them errs as large ones do: it takes one colour for its
neighbour, mixes up whose attribute is whose, turns a relation round. Each thing has one wrong neighbour
only, so the errors are habits, not noise, and a preference dataset can unteach them.
"""

from __future__ import annotations

import random
from dataclasses import replace

from rpo_cli.shapes.grammar import INVERSE, SIZES, Scene, Thing, split_of

NEIGHBOUR = {
    "red": "orange",
    "orange": "yellow",
    "yellow": "green",
    "green": "blue",
    "blue": "purple",
    "purple": "red",
    "circle": "square",
    "square": "triangle",
    "triangle": "star",
    "star": "circle",
    "white": "grey",
    "grey": "tan",
    "tan": "white",
    "black": "grey",
    "left": "center",
    "right": "center",
    "top": "center",
    "bottom": "center",
    "center": "top",
    **dict(zip(SIZES, SIZES[::-1], strict=True)),
}
KINDS = ("shape", "colour", "size", "place", "background", "binding")
TRIES = 5


def mistold(scene: Scene, rng: random.Random) -> Scene:
    """A training scene that differs from `scene` in one habit; `scene` itself when none is found."""
    for _ in range(TRIES):
        told = _mixed_up(scene, rng.choice(KINDS), rng.randrange(len(scene.things)))
        if told != scene and len(set(told.things)) == len(told.things) and split_of(told) == "train":
            return told
    return scene


def _mixed_up(scene: Scene, kind: str, index: int) -> Scene:
    if kind == "background":
        return replace(scene, background=NEIGHBOUR[scene.background])
    if kind == "place" and scene.position is not None:
        return replace(scene, position=NEIGHBOUR[scene.position])
    if kind == "place":
        return replace(scene, relation=INVERSE[scene.relation or ""])
    if kind == "binding":
        return replace(scene, things=_colours_swapped(scene.things))
    things = list(scene.things)
    things[index] = replace(things[index], **{kind: NEIGHBOUR[getattr(things[index], kind)]})
    return replace(scene, things=tuple(things))


def _colours_swapped(things: tuple[Thing, ...]) -> tuple[Thing, ...]:
    colours = [thing.colour for thing in things]
    return tuple(replace(thing, colour=colour) for thing, colour in zip(things, colours[::-1], strict=True))

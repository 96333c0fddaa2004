"""Random edits that fit a scene, for training and tests. Standard library only."""

from __future__ import annotations

import random

from rpo_cli.shapes.edits import KINDS, OPPOSITE, VALUES, Change, SceneEdit, apply_all
from rpo_cli.shapes.grammar import (
    BACKGROUNDS,
    COLOURS,
    INVERSE,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    Thing,
    sample_thing,
)


def _other(rng: random.Random, names: tuple[str, ...], but: str | None) -> str:
    return rng.choice([name for name in names if name != but])


def draw_edits(scene: Scene, rng: random.Random, count: int) -> tuple[list[SceneEdit], Change]:
    """`count` random edits that can be asked for at once, and what they do together."""
    while True:
        drawn = [draw_edit(scene, rng) for _ in range(count)]
        subjects = {(edit.kind, edit.target) for edit in drawn}
        change = apply_all(scene, drawn) if len(subjects) == count else None
        if change is not None and len(set(change.scene.things)) == len(change.scene.things):
            return drawn, change


def draw_edit(scene: Scene, rng: random.Random, kind: str | None = None) -> SceneEdit:
    """A random edit that fits the scene and changes it; `kind` fixes its kind (which must be
    possible).
    """
    count = len(scene.things)
    possible = [k for k in KINDS if not (k == "add" and count > 1) and not (k == "remove" and count < 2)]
    kind = kind or rng.choice(possible)
    target = rng.randrange(count)
    thing = scene.things[target]
    if kind == "background":
        return SceneEdit(kind, value=_other(rng, tuple(BACKGROUNDS), scene.background))
    if kind == "add":
        place = OPPOSITE.get(scene.position or "") if rng.random() < 0.75 else None
        return SceneEdit(kind, value=place or rng.choice(tuple(OPPOSITE)), thing=sample_thing(rng))
    if kind == "move" and count == 1:
        return SceneEdit(kind, 0, _other(rng, POSITIONS, scene.position))
    if kind == "move":
        now = scene.relation if target == 0 else INVERSE[scene.relation or ""]
        return SceneEdit(kind, target, _other(rng, RELATIONS, now), 1 - target)
    if kind == "reshape":
        return SceneEdit(kind, target, _draw_shape(thing, rng))
    now = {"recolour": thing.colour, "resize": thing.size}.get(kind)
    value = _other(rng, VALUES[kind], now) if kind in VALUES else None
    return SceneEdit(kind, target, value)


def _draw_shape(thing: Thing, rng: random.Random) -> str:
    """What `thing` shall become: mostly another shape alone, sometimes with another colour or size."""
    colour = _other(rng, tuple(COLOURS), thing.colour) if rng.random() < 0.3 else ""
    size = _other(rng, SIZES, thing.size) if rng.random() < 0.2 else ""
    shape = thing.shape if colour and size else _other(rng, SHAPES, thing.shape)
    return " ".join(word for word in (size, colour, shape) if word)

"""Prompts for pictures that are there already: right, one attribute off, far off, or of another world.

Standard library only. Every prompt of this world is of the training split.
"""

from __future__ import annotations

import random
from dataclasses import replace

from rpo_cli.shapes.grammar import (
    BACKGROUNDS,
    CAPTION_VARIANTS,
    COLOURS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    UNKNOWN,
    Scene,
    caption,
    sample_scene,
    sample_thing,
    split_of,
    swapped,
)

CHANGES = (0, 1, 2, 3)
CHANGE_WEIGHTS = (0.32, 0.36, 0.22, 0.10)
UNRELATED_SHARE = 0.25  # with less, the prompt tells most of the picture and a critic repeats it unseen
GROUND_SHARE = 0.2  # of prompts with drawn changes: another background too, which is repeated unseen most
FOREIGN_SHARE = 0.03
FOREIGN_WORDS = (
    "portrait photo of the old man woman cat dog castle forest river city night rain robot "
    "painting oil style detailed mountain sunset car train ocean child playing guitar ancient "
    "temple dragon flying over snow anime cute cinematic light fog street bicycle bird flower "
    "garden book table chair apple pizza astronaut horse moon"
)


def settled(seen: Scene, rng: random.Random) -> Scene:
    """A scene that can be asked for, as close to what is seen as can be: unclear attributes are drawn."""
    things = [
        replace(
            thing,
            shape=rng.choice(SHAPES) if thing.shape == UNKNOWN else thing.shape,
            colour=rng.choice(tuple(COLOURS)) if thing.colour == UNKNOWN else thing.colour,
        )
        for thing in seen.things
    ] or [sample_thing(rng)]
    things = rng.sample(things, 2) if len(things) > 2 else things
    while len(things) == 2 and things[0] == things[1]:
        things[1] = sample_thing(rng)
    ground = rng.choice(tuple(BACKGROUNDS)) if seen.background == UNKNOWN else seen.background
    if len(things) == 1:
        return Scene(tuple(things), ground, position=seen.position or rng.choice(POSITIONS))
    return Scene(tuple(things), ground, relation=seen.relation or rng.choice(RELATIONS))


def changed(scene: Scene, rng: random.Random) -> Scene:
    """The scene with one attribute (or, seldom, the number of things) drawn anew."""
    aspect = rng.choice(("shape", "colour", "size", "place", "place", "background", "count"))
    index = rng.randrange(len(scene.things))
    if aspect == "background":
        return replace(scene, background=rng.choice(tuple(BACKGROUNDS)))
    if aspect == "place" and len(scene.things) == 1:
        return replace(scene, position=rng.choice(POSITIONS))
    if aspect == "place":
        return replace(scene, relation=rng.choice(RELATIONS))
    if aspect == "count" and len(scene.things) == 1:
        return Scene((*scene.things, sample_thing(rng)), scene.background, relation=rng.choice(RELATIONS))
    if aspect == "count":
        return Scene((scene.things[index],), scene.background, position=rng.choice(POSITIONS))
    values = {"shape": SHAPES, "colour": tuple(COLOURS), "size": SIZES}[aspect]
    things = list(scene.things)
    things[index] = replace(things[index], **{aspect: rng.choice(values)})
    return replace(scene, things=tuple(things))


def askable(scene: Scene) -> bool:
    """Whether the scene may stand in a training prompt."""
    return len(set(scene.things)) == len(scene.things) and split_of(scene) == "train"


def wanted_for(seen: Scene, rng: random.Random, changes: int | None = None) -> Scene:
    """A training prompt's scene for a picture of `seen`, `changes` attributes away (drawn when None)."""
    if changes is None and rng.random() < UNRELATED_SHARE:
        return sample_scene(rng, "train")
    count = rng.choices(CHANGES, CHANGE_WEIGHTS)[0] if changes is None else changes
    for attempt in range(1000):
        scene = settled(seen, rng)
        for _ in range(count + attempt // 20):  # nothing so near may be of the training split
            scene = changed(scene, rng)
        if changes is None and rng.random() < GROUND_SHARE:
            scene = replace(scene, background=rng.choice(tuple(BACKGROUNDS)))
        if askable(scene):
            return swapped(scene) if rng.random() < 0.5 else scene
    raise RuntimeError(f"no training prompt near {seen}")


def random_caption(scene: Scene, rng: random.Random) -> str:
    """A caption in random words, sometimes written as a sentence."""
    text = caption(scene, rng.randrange(CAPTION_VARIANTS))
    return text[0].upper() + text[1:] + "." if rng.random() < 0.15 else text


def foreign(rng: random.Random) -> str:
    """A prompt of another world: words, or any characters."""
    if rng.random() < 0.8:
        return " ".join(rng.choice(FOREIGN_WORDS.split()) for _ in range(rng.randint(2, 7)))
    return "".join(
        chr(rng.choice((rng.randint(32, 126), rng.randint(0xC0, 0x4FF)))) for _ in range(rng.randint(3, 30))
    )

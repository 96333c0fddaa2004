"""Pairs without critic, editor or reward: a prompt's own picture against one of another prompt."""

import random
from pathlib import Path

import pyarrow as pa

from rpo_cli.line.session import Line
from rpo_cli.line.work.generate import generate_work
from rpo_cli.pictures import encode_png
from rpo_cli.records import row_seed
from rpo_cli.shapes.edits import apply_edit
from rpo_cli.shapes.grammar import CAPTION_VARIANTS, Scene, caption, parse_caption
from rpo_cli.shapes.recipe.draws import draw_edit
from tests.bench.arms import write_pairs
from tests.bench.lines import Table, dataset_line, pictures_of

KINDS = ("recolour", "reshape", "resize", "background", "move")  # the number of things stays
Pictured = tuple[str, bytes]


def mismatched_dataset(data: Table, work: Path, arm: Table) -> Path:
    """The folder of an arm's pairs, made anew: the first picture of each prompt wins.

    Args:
        arm: `loser` is "other" (the first picture of another prompt) or "changed" (the same start noise
            under the prompt with one attribute changed); `pairs` are kept, drawn by a fixed seed.
    """
    line = dataset_line(data, work)
    own = [
        (prompt, picture)
        for prompt, picture, _ in pictures_of(line)[:: line.settings.generate.images_per_prompt]
    ]
    random.Random(0).shuffle(own)
    own = own[: arm["pairs"]]
    losers = LOSERS[arm["loser"]](line, own)
    sides = zip(own, losers, strict=True)
    rows = [
        {"jpg_0": winner, "jpg_1": loser, "label_0": 1.0, "label_1": 0.0, "caption": prompt}
        for (prompt, winner), loser in sides
    ]
    return write_pairs(work, arm["name"], pa.Table.from_pylist(rows))


def of_another(line: Line, own: list[Pictured]) -> list[bytes]:
    """To each prompt the picture of the next that asks for something else; the order is drawn already."""
    scenes = [parse_caption(prompt) for prompt, _ in own]
    turns = range(1, len(own))
    return [
        own[next(k for t in turns if scenes[k := (n + t) % len(own)] != scene)][1]
        for n, scene in enumerate(scenes)
    ]


def of_changed(line: Line, own: list[Pictured]) -> list[bytes]:
    """Pictures of the prompts with one attribute changed, each from the start noise of the own picture."""
    stage = generate_work(line).stage("cpu", "{}")
    generator, size = stage.build(), line.settings.generate.batch_size
    generator.setup()
    seed = line.settings.run.seed
    made: list[bytes] = []
    for start in range(0, len(own), size):
        prompts = [prompt for prompt, _ in own[start : start + size]]
        pictures = generator.generate(
            [changed(p) for p in prompts], [row_seed(seed, p, 0) for p in prompts]
        )
        made += [encode_png(picture) for picture in pictures]
    return made


def changed(prompt: str) -> str:
    """The prompt in the same words, but for one attribute, drawn by the prompt."""
    scene = parse_caption(prompt)
    assert scene is not None, prompt
    rng = random.Random(prompt)
    said = prompt.lower().rstrip(".")
    variant = next(v for v in range(CAPTION_VARIANTS) if caption(scene, v) == said)
    while True:
        after = apply_edit(scene, draw_edit(scene, rng, rng.choice(KINDS))).scene
        if differences(scene, after) == 1 and len(set(after.things)) == len(after.things):
            return caption(after, variant)


def differences(one: Scene, other: Scene) -> int:
    """Attributes that differ between two scenes of equally many things."""
    things = zip(one.things, other.things, strict=True)
    own = [(getattr(a, name), getattr(b, name)) for a, b in things for name in ("shape", "colour", "size")]
    whole = [(getattr(one, name), getattr(other, name)) for name in ("background", "relation", "position")]
    return sum(a != b for a, b in [*own, *whole])


LOSERS = {"other": of_another, "changed": of_changed}

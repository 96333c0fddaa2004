"""The editor's part of `shapes_eval`: cases, what counts as fixed and as kept, and the cells."""

from __future__ import annotations

import argparse
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from rpo_cli.shapes.edits import KINDS
from rpo_cli.shapes.grammar import Scene, canonical
from rpo_cli.shapes.oracle import read
from rpo_cli.shapes.render import render
from rpo_cli.shapes.towards import assign, flaws
from tests.bench.shapes_eval import (
    BATCH,
    EDITOR,
    TEXT_TO_IMAGE,
    Row,
    Sampling,
    batches,
    cell,
    generate,
    held_out,
    load,
    sampling_of,
    share_of,
    show,
    table,
    weights_hash,
)
from tests.shapes.instructions import apply_instruction, edits_towards, fully_right, sample_edit

TRIES = 100  # not every kind is possible on every scene


@dataclass(frozen=True)
class Case:
    """A picture, what is asked of it, what it shows and what it should show then."""

    picture: Image.Image
    before: Scene
    text: str
    after: Scene
    kind: str


def clean_cases(split: str, cases: int) -> list[Case]:
    """Clean renders of held-out scenes with random edits that lead to any scene; kinds in turn
    where possible.
    """
    rng, found = random.Random(f"clean-{split}"), []
    for index, scene in enumerate(held_out(split, cases, seed=1)):
        wanted = KINDS[index // 2 % len(KINDS)]
        text, after, kind = sample_edit(scene, rng)
        for _ in range(TRIES):
            if kind == wanted:
                break
            text, after, kind = sample_edit(scene, rng)
        found.append(Case(render(scene, rng), scene, text, after, kind))
    return found


def flawed_cases(model: Path, split: str, cases: int, joined: int) -> list[Case]:
    """The text-to-image model's own flawed pictures of held-out prompts, with the instructions that
    would mend them.
    """
    pipeline, found, number = load(model), [], 0
    while len(found) < cases:
        scenes = held_out(split, BATCH, seed=100 + number)
        pictures = generate(pipeline, scenes, TEXT_TO_IMAGE, 500_000 + number * BATCH)
        for picture, scene in zip(pictures, scenes, strict=True):
            case = flawed_case(picture, scene, joined)
            if case is not None:
                found.append(case)
        number += 1
    return found[:cases]


def flawed_case(picture: Image.Image, wanted: Scene, joined: int) -> Case | None:
    """The case of one picture; None when nothing is wrong or no instruction can be worded on what
    is seen.
    """
    seen = read(picture).loose
    texts = edits_towards(seen, wanted)[:joined]
    text = "; ".join(texts)
    after = apply_instruction(seen, text) if texts else None
    named = after is not None and len(seen.things) in (1, 2)
    return (
        Case(picture, seen, text, after, "several" if len(texts) > 1 else kind_of(texts[0]))
        if named
        else None
    )


def kind_of(text: str) -> str:
    """The kind of one instruction, by its first words."""
    first = text.split()[0]
    if "background" in text:
        return "background"
    return {
        "turn": "reshape",
        "make": "recolour/resize",
        "add": "add",
        "remove": "remove",
        "move": "move",
    }[first]


def asked_and_rest(case: Case, seen: Scene) -> tuple[bool, bool]:
    """Whether every asked attribute is fixed, and whether everything else is as it was.

    A flaw of the result against the wanted scene belongs to what was asked when the same aspect of
    the same thing was a flaw before the edit; every other flaw is damage. With a wrong count the
    things cannot be told apart: it is held against what was asked only if the count was asked to
    change, else against the rest.
    """
    asked = {(flaw.aspect, flaw.object_index) for flaw in flaws(case.before, case.after)}
    left = {(flaw.aspect, flaw.object_index) for flaw in flaws(seen, case.after)}
    fixed = not (asked & left)
    if ("count", None) in asked:
        added = len(case.after.things) > len(case.before.things)
        new = set(range(len(case.after.things))) - set(kept_indices(case)) if added else set()
        of_new = {item for item in left if item[1] in new or item[0] in ("relation", "position")}
        fixed, left = fixed and not of_new, left - of_new
    return fixed, not (left - asked)


def kept_indices(case: Case) -> list[int]:
    """Indices of the wanted things that were there before."""
    return [index for index, at in enumerate(assign(case.before, case.after)) if at is not None]


def case_row(case: Case, picture: Image.Image) -> Row:
    """One row of the editor's table."""
    reading = read(picture)
    fixed, kept = asked_and_rest(case, reading.loose)
    return {
        "count": len(case.before.things),
        "kind": case.kind,
        "fixed": fixed,
        "kept": kept,
        "whole": fully_right(reading, case.after),
        "readable": reading.scene is not None,
        "unchanged": canonical(reading.loose) == canonical(case.before),
    }


EDIT_MEASURES = ("fixed", "kept", "whole", "readable", "unchanged")
SHOWN = (*EDIT_MEASURES, "by_kind")


def edit(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    pictures: list[Image.Image],
    texts: list[str],
    sampling: Sampling,
    seed: int,
) -> list[Image.Image]:
    """One edit per picture."""
    made = pipeline(
        texts,
        image=pictures,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
        image_guidance_scale=sampling.image_guidance,
        generator=[torch.Generator().manual_seed(seed + i) for i in range(len(texts))],
    )
    return list(made.images)


def measure_editor(folder: Path, cases: list[Case], sampling: Sampling) -> dict[str, object]:
    """Edited pictures against what was asked, by stratum and by kind."""
    pipeline, rows = load(folder), []
    for number, some in enumerate(batches(cases)):
        made = edit(
            pipeline,
            [c.picture for c in some],
            [c.text for c in some],
            sampling,
            9000 + number * BATCH,
        )
        rows += [case_row(case, picture) for case, picture in zip(some, made, strict=True)]
    kinds = sorted({str(row["kind"]) for row in rows})
    by_kind = {
        kind: {
            m: asdict(share_of(bool(r[m]) for r in rows if r["kind"] == kind)) for m in EDIT_MEASURES[:3]
        }
        for kind in kinds
    }
    return {**table(rows, EDIT_MEASURES), "by_kind": by_kind}


def measure_editor_cells(
    options: argparse.Namespace, model: Path, editor: Path, common: dict[str, object]
) -> None:
    """Clean renders, or flawed generated pictures with the first `joined` instructions at once."""
    sampling = sampling_of(options, EDITOR)
    settings = {**common, "weights": weights_hash(editor), **asdict(sampling)}
    if options.part == "editor":
        made = cell(
            "editor-clean",
            settings,
            lambda: measure_editor(editor, clean_cases(options.split, options.cases), sampling),
        )
        show(made, SHOWN)
        return
    drawn = {f"t2i_{name}": value for name, value in asdict(TEXT_TO_IMAGE).items()}
    settings |= {"pictures": weights_hash(model), **drawn, "joined": options.joined}

    def flawed() -> dict[str, object]:
        cases = flawed_cases(model, options.split, options.cases, options.joined)
        return measure_editor(editor, cases, sampling)

    show(cell("editor-flawed", settings, flawed), SHOWN)

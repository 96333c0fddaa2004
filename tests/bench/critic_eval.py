"""Measures critic and rewards: `python -m tests.bench.critic_eval {critic,reward,vqascore}`.

Against the oracle, through the line's own stage and backends, on held-out prompts: on clean renders
that miss their prompt by 0 to 3 attributes, and on the text-to-image model's own pictures. One cell
each in results/shapes.jsonl. Shares over attributes or pairs of one picture are not
independent: their Wilson intervals are a little too narrow.
"""

from __future__ import annotations

import argparse
import itertools
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rpo_cli.backends.critic import TransformersCritic
from rpo_cli.backends.rewards import ClipReward, VqaScore
from rpo_cli.config import CritiqueSettings
from rpo_cli.protocols import Task, Weights
from rpo_cli.records import Critique
from rpo_cli.shapes import manifest
from rpo_cli.shapes.grammar import CAPTION_VARIANTS, Scene, caption
from rpo_cli.shapes.oracle import read
from rpo_cli.shapes.recipe.critic_words import MAX_INSTRUCTIONS, in_prompt_order, seen_sentence
from rpo_cli.shapes.recipe.mismatches import changed
from rpo_cli.shapes.render import render
from rpo_cli.shapes.towards import flaws, plan
from rpo_cli.stages import critique
from rpo_cli.templates import Templates
from tests.bench.shapes_eval import (
    TEXT_TO_IMAGE,
    Row,
    batches,
    cell,
    generate,
    held_out,
    load,
    show,
    table,
    weights_hash,
)
from tests.shapes.instructions import ASPECTS, apply_instruction, same

PICTURES_PER_PROMPT = 4
PAIRS_PER_PROMPT = 3
# a critic's case is a picture; 700 prompts are drawn both right and wrong often enough for 1,000 pairs
PROMPTS = {"critic": 250, "reward": 700, "vqascore": 700}
KEPT = Path(".train/eval-pictures")  # generated once per model, derived and disposable


@dataclass(frozen=True)
class Case:
    """A picture, its prompt, what the prompt wants and what the oracle sees."""

    picture: Image.Image
    prompt: str
    wanted: Scene
    seen: Scene

    @property
    def right(self) -> bool:
        return not flaws(self.seen, self.wanted)


def clean_cases(split: str, prompts: int) -> list[list[Case]]:
    """PICTURES_PER_PROMPT renders for each prompt: one right, the others 1 to 3 attributes off."""
    rng, found = random.Random(f"critic-{split}"), []
    for index, wanted in enumerate(held_out(split, prompts, seed=7)):
        shown = [wanted]
        while len(shown) < PICTURES_PER_PROMPT:
            other = wanted
            for _ in range(rng.choice((1, 1, 2, 3))):
                other = changed(other, rng)
            if flaws(other, wanted):
                shown.append(other)
        pictures = [render(scene, rng) for scene in shown]
        found.append([case_of(picture, wanted, index) for picture in pictures])
    return found


def case_of(picture: Image.Image, wanted: Scene, index: int) -> Case:
    """The case of one picture; caption variants in turn."""
    return Case(picture, caption(wanted, index // 2 % CAPTION_VARIANTS), wanted, read(picture).loose)


def generated_cases(model: Path, split: str, prompts: int) -> list[list[Case]]:
    """PICTURES_PER_PROMPT pictures of the text-to-image model for each prompt."""
    wanted = held_out(split, prompts, seed=7)
    sampled = f"{TEXT_TO_IMAGE.steps}-{TEXT_TO_IMAGE.guidance}"
    file = KEPT / f"{weights_hash(model)}-{sampled}-{split}-{prompts}.npy"
    if not file.is_file():
        pipeline, made = load(model), []
        repeated = [scene for scene in wanted for _ in range(PICTURES_PER_PROMPT)]
        for number, scenes in enumerate(batches(repeated)):
            made += generate(pipeline, scenes, TEXT_TO_IMAGE, 70_000 + number * 100)
        KEPT.mkdir(parents=True, exist_ok=True)
        np.save(file, np.stack([np.asarray(picture) for picture in made]))
    pixels = np.load(file).reshape(prompts, PICTURES_PER_PROMPT, 64, 64, 3)
    return [
        [case_of(Image.fromarray(picture), scene, index) for picture in pixels[index]]
        for index, scene in enumerate(wanted)
    ]


# ---- critic --------------------------------------------------------------------------------------


def critiques(folder: Path, cases: list[Case], single_turn: bool) -> list[Critique | None]:
    """The line's own critique of every case, None where it was rejected."""
    critic = TransformersCritic(Weights(str(folder)))
    critic.setup()
    settings = CritiqueSettings(max_tokens=200, attempts=2, batch_size=32, single_turn=single_turn)
    step = critique.make_step(settings, Templates.find(None, "rpo"), "{}", "{}")
    rows: list[Critique | None] = []
    for number, some in enumerate(batches(cases)):
        light = [
            {"image_id": f"{number}-{i}", "sha256": f"{number}-{i}", "prompt_id": "", "prompt": case.prompt}
            for i, case in enumerate(some)
        ]
        tasks = [
            Task(task.key, task.input_id, replace(task.payload, picture=case.picture))
            for task, case in zip(critique.wanted(light, seed=0, settings="{}"), some, strict=True)
        ]
        rows += [row if isinstance(row, Critique) else None for row in step(tasks, critic, 32)]
    return rows


def place_merged(aspects: set[str]) -> set[str]:
    """Position and relation are one attribute: a prompt has the one or the other."""
    return {"place" if aspect in ("position", "relation") else aspect for aspect in aspects}


def attribute_rows(case: Case, row: Critique | None) -> list[Row]:
    """One row per attribute: whether critic and oracle agree on it; a reject agrees on nothing."""
    truth = place_merged({flaw.aspect for flaw in flaws(case.seen, case.wanted)})
    told = place_merged({flaw.aspect for flaw in row.flaws}) if row else set()
    found: list[Row] = []
    for aspect in sorted(place_merged(set(ASPECTS))):
        agree = row is not None and (aspect in told) == (aspect in truth)
        one: Row = {"count": len(case.wanted.things), "agree": agree, f"agree_{aspect}": agree}
        one["agree_if_silent"] = aspect not in truth
        if aspect in truth:
            one["recall"] = aspect in told
        if aspect in told:
            one["precision"] = aspect in truth
        found.append(one)
    return found


def picture_row(case: Case, row: Critique | None) -> Row:
    """One row per picture: the whole list, the perception, the instructions."""
    count = len(case.wanted.things)
    if row is None:
        return {"count": count, "valid": False}
    truth = {flaw.aspect for flaw in flaws(case.seen, case.wanted)}
    told = {flaw.aspect for flaw in row.flaws}
    ordered = in_prompt_order(case.seen, case.wanted)
    one: Row = {
        "count": count,
        "valid": True,
        "whole_list": truth == told,
        "seen_right": row.text.startswith(seen_sentence(ordered)),
        "flawless_told_right": (not told) == (not truth),
    }
    if 0 < len(plan(ordered, case.wanted)) <= MAX_INSTRUCTIONS and len(ordered.things) in (1, 2):
        after = apply_instruction(ordered, "; ".join(row.instructions)) if row.instructions else None
        one["instructions_mend"] = after is not None and same(after, case.wanted)
    return one


AGREEMENT = (
    *("agree", *(f"agree_{a}" for a in sorted(place_merged(set(ASPECTS))))),
    *("recall", "precision", "agree_if_silent"),
)
WHOLE = ("valid", "whole_list", "seen_right", "flawless_told_right", "instructions_mend")
RANKED = {"reward": ("ranked",), "vqascore": ("ranked", "answer_right")}


def measure_critic(folder: Path, groups: list[list[Case]], single_turn: bool) -> dict[str, object]:
    """Agreement of flaw lists with the oracle, by attribute and by picture."""
    cases = [case for group in groups for case in group]
    rows = critiques(folder, cases, single_turn)
    attributes = [one for case, row in zip(cases, rows, strict=True) for one in attribute_rows(case, row)]
    pictures = [picture_row(case, row) for case, row in zip(cases, rows, strict=True)]
    return {**table(attributes, AGREEMENT), **table(pictures, WHOLE)}


# ---- rewards -------------------------------------------------------------------------------------


def measure_reward(
    backend: ClipReward | VqaScore, groups: list[list[Case]], probability: bool
) -> dict[str, object]:
    """Right above wrong pictures of the same prompt; for a probability also whether it says what is."""
    backend.setup()
    cases = [case for group in groups for case in group]
    scores: list[float] = []
    for some in batches(cases):
        padded = [*some, *[some[-1]] * (32 - len(some))]
        scores += backend.score([c.prompt for c in padded], [c.picture for c in padded])[: len(some)]
    rows: list[Row] = []
    for number, group in enumerate(groups):
        own = scores[number * PICTURES_PER_PROMPT :][: len(group)]
        scored = list(zip(group, own, strict=True))
        pairs = [
            (good, bad)
            for (one, good), (other, bad) in itertools.product(scored, scored)
            if one.right and not other.right
        ]
        count = len(group[0].wanted.things)
        rows += [{"count": count, "ranked": good > bad} for good, bad in pairs[:PAIRS_PER_PROMPT]]
        if probability:
            rows += [{"count": count, "answer_right": (s > 0.5) == case.right} for case, s in scored]
    return table(rows, RANKED["vqascore" if probability else "reward"])


# ---- the door ------------------------------------------------------------------------------------


def measure(options: argparse.Namespace, source: str) -> None:
    """One cell."""
    text_to_image = options.models / "text-to-image"
    folder = options.models / ("reward" if options.part == "reward" else "critic")
    settings: dict[str, object] = {
        "split": options.split,
        "prompts": options.prompts,
        "pictures": source,
        "weights": weights_hash(folder),
        "templates": Templates.find(None, "rpo").hashes,
    }
    if source == "generated":
        settings |= {"text_to_image": weights_hash(text_to_image), "sampling": asdict(TEXT_TO_IMAGE)}
    if options.single_turn:
        settings["single_turn"] = True

    def compute() -> dict[str, object]:
        if source == "clean":
            groups = clean_cases(options.split, options.prompts)
        else:
            groups = generated_cases(text_to_image, options.split, options.prompts)
        if options.part == "critic":
            return measure_critic(folder, groups, options.single_turn)
        backend = (
            ClipReward(Weights(str(folder))) if options.part == "reward" else VqaScore(Weights(str(folder)))
        )
        return measure_reward(backend, groups, options.part == "vqascore")

    measures = RANKED.get(options.part, (*AGREEMENT, *WHOLE))
    show(cell(f"{options.part}-{source}", settings, compute), measures)


def main() -> None:
    """Measure one part on clean renders and, when the model is there, on generated pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("critic", "reward", "vqascore"))
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--prompts", type=int, help="none: as many as give 1,000 cases of a part")
    parser.add_argument("--pictures", choices=("clean", "generated", "both"), default="both")
    parser.add_argument("--single-turn", action="store_true")
    parser.add_argument("--models", type=Path, default=manifest.MODELS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    options.prompts = options.prompts or PROMPTS[options.part]
    torch.set_num_threads(options.threads)
    for source in ("clean", "generated"):
        there = source == "clean" or (options.models / "text-to-image").is_dir()
        if options.pictures in (source, "both") and there:
            measure(options, source)


if __name__ == "__main__":
    main()

"""Measures the shapes models with the oracle: `python -m tests.bench.shapes_eval
{oracle,vae,text-to-image,editor,editor-flawed}`.

A measurement is a cell in results/shapes.jsonl, found by what was measured, the weights'
hash and the settings; a cell that exists is not measured again. Held-out: attribute combinations never
seen in training.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from PIL import Image

from rpo_cli.shapes import manifest, preset
from rpo_cli.shapes.grammar import CAPTION_VARIANTS, Scene, caption, sample_scene
from rpo_cli.shapes.oracle import Reading, compare, read
from rpo_cli.shapes.recipe.latents import encode
from rpo_cli.shapes.render import render
from tests.bench import cells

BATCH = 32


@dataclass(frozen=True)
class Sampling:
    """Steps and guidances of a pipeline."""

    steps: int
    guidance: float
    image_guidance: float = 0.0


def preset_sampling(section: str) -> Sampling:
    """What the preset `shapes` samples with; the first of a grid."""
    chosen = preset.settings()[section]
    first = {
        key: np.atleast_1d(chosen[key])[0].item() for key in ("guidance", "image_guidance") if key in chosen
    }
    return Sampling(steps=chosen["steps"], **first)


TEXT_TO_IMAGE = preset_sampling("generate")
EDITOR = preset_sampling("edit")


@dataclass(frozen=True)
class Share:
    """A share with its 95 % Wilson interval."""

    share: float
    low: float
    high: float
    cases: int


def share_of(hits: Iterable[bool]) -> Share | None:
    """The share of true values; None when there are none at all."""
    values = [bool(hit) for hit in hits]
    count, z = len(values), 1.96
    if not count:
        return None
    mean = sum(values) / count
    middle = (mean + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (mean * (1 - mean) / count + z * z / (4 * count**2)) ** 0.5
    return Share(round(mean, 4), round(middle - half, 4), round(middle + half, 4), count)


Row = dict[str, bool | int | str]


def table(rows: list[Row], measures: tuple[str, ...]) -> dict[str, dict[str, object]]:
    """Measure -> {all, one, two}: shares over the rows that have the measure."""
    strata = {
        "all": rows,
        "one": [r for r in rows if r["count"] == 1],
        "two": [r for r in rows if r["count"] == 2],
    }
    found: dict[str, dict[str, object]] = {}
    for measure in measures:
        for name, kept in strata.items():
            share = share_of(bool(row[measure]) for row in kept if measure in row)
            found.setdefault(measure, {})[name] = asdict(share) if share else None
    return found


def batches(items: list, size: int = BATCH) -> Iterable[list]:
    """Consecutive slices of `size`."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


# ---- what is measured ----------------------------------------------------------------------------

ATTRIBUTES = ("count", "shape", "colour", "size", "position", "relation", "background")


def verdict_row(reading: Reading, wanted: Scene) -> Row:
    """One row of attribute verdicts."""
    verdict = compare(reading, wanted)
    named = {f"right_{name}": fine for name, fine in verdict.items()}
    return {
        "count": len(wanted.things),
        "right": all(verdict.values()),
        "readable": reading.scene is not None,
        **named,
    }


VERDICTS = ("right", "readable", *(f"right_{name}" for name in ATTRIBUTES))


def held_out(split: str, cases: int, seed: int = 0) -> list[Scene]:
    """Scenes of a split, one and two things in turn, so in exactly equal shares."""
    rng = random.Random(f"{split}-{seed}")
    return [sample_scene(rng, split, 1 + i % 2) for i in range(cases)]


def measure_oracle(split: str, cases: int) -> dict[str, object]:
    """The oracle on clean renders."""
    rng = random.Random(11)
    rows = [verdict_row(read(render(scene, rng)), scene) for scene in held_out(split, cases)]
    return table(rows, VERDICTS)


@torch.no_grad()
def measure_vae(folder: Path, split: str, cases: int) -> dict[str, object]:
    """Reconstructions of clean renders, through the pipeline's own autoencoder."""
    vae = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32).vae
    rng, rows = random.Random(12), []
    for scenes in batches(held_out(split, cases)):
        mean, _ = encode(vae, [render(scene, rng) for scene in scenes])
        made = vae.decode(mean.float()).sample.clamp(-1, 1)
        pixels = ((made + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        rows += [verdict_row(read(Image.fromarray(p)), s) for p, s in zip(pixels, scenes, strict=True)]
    return table(rows, VERDICTS)


def load(folder: Path) -> DiffusionPipeline:
    """The pipeline as a user would load it, float32, silent."""
    pipeline = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: StableDiffusionPipeline, scenes: list[Scene], sampling: Sampling, seed: int
) -> list[Image.Image]:
    """One picture per scene; caption variants in turn."""
    prompts = [caption(scene, i % CAPTION_VARIANTS) for i, scene in enumerate(scenes)]
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(scenes))]
    made = pipeline(
        prompts,
        num_inference_steps=sampling.steps,
        guidance_scale=sampling.guidance,
        generator=generators,
        height=64,
        width=64,
    )
    return list(made.images)


def measure_text_to_image(folder: Path, split: str, cases: int, sampling: Sampling) -> dict[str, object]:
    """Generated pictures against their prompts."""
    pipeline, rows = load(folder), []
    for number, scenes in enumerate(batches(held_out(split, cases))):
        pictures = generate(pipeline, scenes, sampling, 1000 + number * BATCH)
        rows += [verdict_row(read(picture), scene) for picture, scene in zip(pictures, scenes, strict=True)]
    return table(rows, VERDICTS)


# ---- cells ---------------------------------------------------------------------------------------


def weights_hash(folder: Path) -> str:
    """Hash of all weights of a pipeline folder."""
    files = sorted(folder.rglob("*.safetensors"))
    return hashlib.sha256("".join(manifest.digest(file) for file in files).encode()).hexdigest()[:12]


def cell(
    name: str, settings: dict[str, object], compute: Callable[[], dict[str, object]]
) -> dict[str, object]:
    """The cell of these settings, committed or computed and written."""

    def timed() -> dict[str, object]:
        began = time.monotonic()
        result = compute()
        return {"seconds": round(time.monotonic() - began, 1), "result": result}

    return {"name": name, "settings": settings, **cells.cell("shapes", name, settings, timed)}


def show(made: dict[str, object], measures: tuple[str, ...]) -> None:
    """The cell's shares, one line a measure, in the order of `measures`."""
    sys.stdout.write(f"{made['name']} {json.dumps(made['settings'])} {made['seconds']} s\n")
    result = made["result"]
    assert isinstance(result, dict)
    for measure in measures:
        said = [f"{name} {told(entry)}" for name, entry in result[measure].items() if entry]
        sys.stdout.write(f"  {measure:17} " + " | ".join(said) + "\n")


def told(entry: dict[str, object]) -> str:
    """One share with its interval, or one kind's shares."""
    if "share" in entry:
        return f"{entry['share']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}] n={entry['cases']}"
    return " ".join(f"{measure} {told(share)}" for measure, share in entry.items())


def main() -> None:
    """Measure one part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("oracle", "vae", "text-to-image", "editor", "editor-flawed"))
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--models", type=Path, default=manifest.MODELS)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--guidance", type=float)
    parser.add_argument("--image-guidance", type=float)
    parser.add_argument("--joined", type=int, default=1, help="Instructions at once (editor-flawed).")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    measure(options)


def sampling_of(options: argparse.Namespace, default: Sampling) -> Sampling:
    """The default settings with those named on the command line."""
    given = {name: getattr(options, name) for name in ("steps", "guidance", "image_guidance")}
    return Sampling(**{**asdict(default), **{k: v for k, v in given.items() if v is not None}})


def measure(options: argparse.Namespace) -> None:
    """Compute the cells of one part and show them."""
    model, editor = options.models / "text-to-image", options.models / "editor"
    common = {"split": options.split, "cases": options.cases}
    if options.part == "oracle":
        show(cell("oracle", common, lambda: measure_oracle(options.split, options.cases)), VERDICTS)
    if options.part == "vae":
        settings = {**common, "weights": weights_hash(model / "vae")}
        made = cell("vae", settings, lambda: measure_vae(model, options.split, options.cases))
        show(made, VERDICTS)
    if options.part == "text-to-image":
        sampling = sampling_of(options, TEXT_TO_IMAGE)
        settings = {**common, "weights": weights_hash(model), **asdict(sampling)}
        made = cell(
            "text-to-image",
            settings,
            lambda: measure_text_to_image(model, options.split, options.cases, sampling),
        )
        show(made, VERDICTS)
    if options.part in ("editor", "editor-flawed"):
        from tests.bench.shapes_editor_eval import measure_editor_cells  # it builds on this module

        measure_editor_cells(options, model, editor, common)


if __name__ == "__main__":
    main()

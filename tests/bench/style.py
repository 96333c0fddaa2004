"""Style alignment on shapes, after Diffusion-RPO: `python -m tests.bench.style [--only METHOD]`.

Pairs prefer outlined renderings to plain ones of the same scene (Gu et al. 2024, arXiv:2406.06382, do so
with painted styles). Each method tunes the embedded generator on them, and its pictures of held-out
prompts are compared with outlined renderings of these prompts: nothing but the renderer is needed, and
the only thing to learn is the look. Computes only the cells that are missing in results/style.jsonl.
"""

import argparse
import io
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageDraw
from scipy import linalg

from rpo_cli import build_pairs, evaluate, fine_tune, open_line
from rpo_cli.line.imports.run import import_source
from rpo_cli.line.session import Line
from rpo_cli.line.work.generate import live_images
from rpo_cli.metrics.labels import features, fitted
from rpo_cli.pictures import decode, encode_png
from rpo_cli.shapes.grammar import BACKGROUNDS, COLOURS, Scene, parse_caption
from rpo_cli.shapes.prompts import prompts
from rpo_cli.shapes.render import OUTLINES, OVERSAMPLING, SIDE, Layout, draw, place
from rpo_cli.statistics import crossed_bootstrap
from tests.bench.cells import cell
from tests.bench.lines import parquet_hash, sampling

Table = dict[str, Any]
HOLE = 0.55  # size of what is cut out of each thing; a thinner line is lost in the generator's own VAE
DATA: Table = {"split": "train", "pairs": 300, "prompt_seed": 31, "hole": HOLE}
EVAL: Table = {"split": "dev", "prompts": 100, "prompt_seed": 37, "seeds": 2}
METHODS: dict[str, Table] = {
    "sft": {"train.method": "sft"},
    "dpo": {"train.method": "dpo", "train.beta": 50.0},
    "dpo-500": {"train.method": "dpo", "train.beta": 500.0},
    "relative": {"train.method": "relative", "train.beta": 50.0},
}
TRAIN: Table = {"train.learning_rate": 3e-4, "train.steps": 200, "train.seed": 0}


def outlined(scene: Scene, layout: Layout) -> Image.Image:
    """The scene as `draw` paints it, with a hole of the background's colour in every thing."""
    picture = draw(scene, layout).resize((SIDE * OVERSAMPLING,) * 2, Image.Resampling.NEAREST)
    brush = ImageDraw.Draw(picture)
    for thing, at in zip(scene.things, layout.placements, strict=True):
        for scale, colour in ((1.0, COLOURS[thing.colour]), (HOLE, BACKGROUNDS[scene.background])):
            reach = at.diameter * scale
            brush.polygon(
                [
                    ((at.x + u * reach) * OVERSAMPLING, (at.y + v * reach) * OVERSAMPLING)
                    for u, v in OUTLINES[thing.shape]
                ],
                fill=colour,
            )
    return picture.reduce(OVERSAMPLING)


def both(prompt: str, seed: int) -> tuple[Image.Image, Image.Image]:
    """The prompt's scene, plain and outlined, in one layout."""
    scene = parse_caption(prompt)
    assert scene is not None
    layout = place(scene, random.Random(f"style {seed} {prompt}"))
    return draw(scene, layout), outlined(scene, layout)


def write_source(path: Path) -> None:
    """Pairs in Pick-a-Pic's columns, the outlined picture preferred and on either side in turn."""
    rows = []
    for number, prompt in enumerate(prompts(DATA["split"], DATA["pairs"], DATA["prompt_seed"])):
        plain, styled = (encode_png(picture) for picture in both(prompt, 0))
        first = number % 2 == 0
        sides = (styled, plain) if first else (plain, styled)
        rows.append({"caption": prompt, "jpg_0": sides[0], "jpg_1": sides[1], "label_0": float(first)})
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    path.write_bytes(buffer.getvalue())


def style_line(work: Path, options: Table) -> Line:
    labelled = {"pairs.strategy": "imported", "pairs.labels": "source", "pairs.val_fraction": 0.05}
    return open_line(work / "run", {**labelled, **TRAIN, **options}, preset="shapes")


def make_dataset(work: Path) -> str:
    """The run with the pairs as its dataset; returns the hash of its data files."""
    source = work / "pairs" / "train-0.parquet"
    write_source(source)
    line = style_line(work, {})
    import_source(line, source.parent, license="apache-2.0")
    build_pairs(line)
    return parquet_hash(work / "run" / "dataset")


def measured(work: Path, method: str) -> Table:
    """Train one method, generate, and compare with the styled set; the base's figures too."""
    line = style_line(work, {**METHODS[method], "train.name": method})
    fine_tune(line)
    asked = work / "eval.txt"
    texts = prompts(EVAL["split"], EVAL["prompts"], EVAL["prompt_seed"])
    asked.write_text("\n".join(texts) + "\n")
    found = evaluate(
        line,
        name="style",
        adapters=[method],
        prompts=asked,
        seeds=EVAL["seeds"],
        rewards=line.settings.score.rewards[:1],  # the look is what counts here
        measure="shapes-oracle",
    )
    tuned = found.results["settings"][1]
    looks = {name: _looks(work / "run" / "eval" / "style" / name) for name in ("base", method)}
    shown = Decoded(str(line.settings.generate.generator))
    return {
        "base": figures(looks["base"], texts, shown),
        "tuned": figures(looks[method], texts, shown),
        "drift": tuned["against_base"]["drift"]["pixel"],
        "colour": tuned["measured"]["all"]["attributes"]["colour"],
        "base_colour": found.results["settings"][0]["measured"]["all"]["attributes"]["colour"],
    }


def _looks(run: Path) -> dict[str, list[np.ndarray]]:
    """Prompt → features of its pictures."""
    line = open_line(run, create=False)
    ids = {row["image_id"]: row["prompt"] for row in live_images(line)}
    found: dict[str, list[np.ndarray]] = {}
    for row in sorted(line.store.fetch("images", set(ids)), key=lambda row: (row.prompt, row.index)):
        found.setdefault(row.prompt, []).append(features(decode(row.image.bytes)))
    return found


class Decoded:
    """Renderings as the generator's own VAE shows them: what any picture of it looks like at best."""

    def __init__(self, generator: str) -> None:
        self.vae = AutoencoderKL.from_pretrained(generator, subfolder="vae", use_safetensors=True)

    @torch.no_grad()
    def __call__(self, picture: Image.Image) -> np.ndarray:
        """Features of the picture after one encode and decode."""
        pixels = torch.from_numpy(np.asarray(picture).astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1
        back = self.vae.decode(self.vae.encode(pixels).latent_dist.mode()).sample[0]
        grey = ((back.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()
        return features(Image.fromarray(grey))


def figures(looks: dict[str, list[np.ndarray]], texts: list[str], shown: Decoded) -> Table:
    """Fréchet distance to the styled and the plain renderings, and the share that looks outlined."""
    rows = np.concatenate([looks[text] for text in texts])
    plain, styled = rendered(texts, 1, shown)
    scale = np.concatenate([plain, styled]).std(axis=0) + 1e-6
    return {
        "to_styled": frechet(rows / scale, styled / scale),
        "to_plain": frechet(rows / scale, plain / scale),
        "outlined": crossed_bootstrap([_outlined(looks, texts, shown)])._asdict(),
    }


def rendered(texts: list[str], seed: int, shown: Decoded) -> tuple[np.ndarray, np.ndarray]:
    """Features of the plain and of the outlined renderings, a row a prompt."""
    sides = zip(*(map(shown, both(text, seed)) for text in texts), strict=True)
    plain, styled = (np.stack(side) for side in sides)
    return plain, styled


def _outlined(looks: dict[str, list[np.ndarray]], texts: list[str], shown: Decoded) -> list[float]:
    """Share of each prompt's pictures that a classifier of renderings calls outlined."""
    known = prompts(DATA["split"], DATA["pairs"], DATA["prompt_seed"])
    table = np.concatenate(rendered(known, 0, shown))
    middle, spread = table.mean(axis=0), table.std(axis=0) + 1e-9
    weights = fitted((table - middle) / spread, np.repeat([False, True], len(known)))
    return [
        float(np.mean([(look - middle) / spread @ weights[:-1] + weights[-1] > 0 for look in looks[text]]))
        for text in texts
    ]


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """|mean_a - mean_b|² + tr(A + B - 2 (A B)^½) of Gaussians fitted to rows (Heusel et al. 2017)."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    return float(np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2) + np.trace(first + second - 2 * root))


def method_cell(work: Path, method: str, dataset: str) -> Table:
    inputs = {
        "data": DATA,
        "dataset": dataset,
        "eval": EVAL,
        "train": {**TRAIN, **METHODS[method]},
        "sampling": sampling(style_line(work, {})),
    }
    return cell("style", method, inputs, lambda: measured(work, method))


def layout(cells: dict[str, Table]) -> str:
    asked = f"{EVAL['prompts']} {EVAL['split']} prompts x {EVAL['seeds']} seeds"
    lines = [
        f"style: {DATA['pairs']} pairs, {TRAIN['train.steps']} steps, {asked}, one training seed",
        "| method | to outlined | to plain | looks outlined | 95 % interval | colour right | drift |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = [("base", cell["base"], cell["base_colour"], None) for cell in list(cells.values())[:1]]
    rows += [(name, cell["tuned"], cell["colour"], cell["drift"]) for name, cell in cells.items()]
    for name, found, colour, drift in rows:
        share = found["outlined"]
        lines.append(
            f"| {name} | {found['to_styled']:.2f} | {found['to_plain']:.2f} | {share['value']:.3f} "
            f"| {share['low']:.3f} to {share['high']:.3f} | {colour['value']:.3f} "
            f"| {'' if drift is None else format(drift['value'], '.3f')} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".train/style"))
    parser.add_argument("--only", choices=METHODS, action="append")
    options = parser.parse_args()
    dataset = make_dataset(options.work)
    cells = {name: method_cell(options.work, name, dataset) for name in options.only or METHODS}
    sys.stdout.write(layout(cells))


if __name__ == "__main__":
    main()

"""Pictures as a model may draw them, with what the oracle reads in them: critic and reward learn on these.

Clean renders, and flawed ones: warped and blended outlines, wrong sizes and colours, no, three or
touching things, the autoencoder's smear. Photometric noise is added per batch (`augment`), after the
label. Only training combinations.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from rpo_cli.shapes import oracle
from rpo_cli.shapes.grammar import (
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    UNKNOWN,
    Rgb,
    Scene,
    Thing,
    sample_any,
    sample_scene,
    sample_thing,
    split_of,
)
from rpo_cli.shapes.recipe.train_vae import load_vae
from rpo_cli.shapes.render import OUTLINES, SIDE, Placement, place, render

OVERSAMPLING = 4
POINTS = 60
MOST_THINGS = 3
SAMPLED, TIMES = "sampled", (4, 24)  # names of sampled sets; how often their clear, unclear pictures count


@dataclass(frozen=True)
class Seen:
    """Pictures as uint8 (N, SIDE, SIDE, 3) and what each shows."""

    pixels: Tensor
    scenes: list[Scene]


def _radii(shape: str) -> np.ndarray:
    """The outline as its distance from the centre at POINTS even angles (every shape allows it)."""
    corners = np.array(OUTLINES[shape])
    ends = np.roll(corners, -1, axis=0)
    steps = np.linspace(0, 1, 200, endpoint=False)[:, None, None]
    line = (corners + steps * (ends - corners)).reshape(-1, 2)
    angles, radii = np.arctan2(line[:, 1], line[:, 0]), np.hypot(line[:, 0], line[:, 1])
    order = np.argsort(angles)
    even = np.linspace(-math.pi, math.pi, POINTS, endpoint=False)
    return np.interp(even, angles[order], radii[order], period=2 * math.pi)


_RADII: dict[str, np.ndarray] = {}


def _warped(shape: str, rng: random.Random, at: Placement) -> list[tuple[float, float]]:
    """An outline in oversampled pixels: blended with another, wobbling, turned, stretched a little."""
    if not _RADII:
        _RADII.update({name: _radii(name) for name in SHAPES})
    blend = rng.random() ** 2 * 0.7 if rng.random() < 0.6 else 0.0
    radii = (1 - blend) * _RADII[shape] + blend * _RADII[rng.choice(SHAPES)]
    even = np.linspace(-math.pi, math.pi, POINTS, endpoint=False)
    for waves in (2, 3, 5):
        radii = radii * (1 + rng.gauss(0, 0.035) * np.cos(waves * even + rng.uniform(0, 6.3)))
    turn = rng.gauss(0, 0.09)
    wide = math.exp(rng.gauss(0, 0.06))
    x = at.x + at.diameter * radii * np.cos(even + turn) * wide
    y = at.y + at.diameter * radii * np.sin(even + turn) / wide
    return [(float(u) * OVERSAMPLING, float(v) * OVERSAMPLING) for u, v in zip(x, y, strict=True)]


def _tinted(colour: Rgb, rng: random.Random, spread: float) -> Rgb:
    red, green, blue = (min(255, max(0, round(c + rng.gauss(0, spread)))) for c in colour)
    return red, green, blue


def _placements(scene: Scene, rng: random.Random) -> list[Placement]:
    if scene.relation or scene.position:
        placed = place(scene, rng).placements
        return [
            Placement(
                p.x + rng.gauss(0, 1.5), p.y + rng.gauss(0, 1.5), p.diameter * math.exp(rng.gauss(0, 0.1))
            )
            for p in placed
        ]
    return [
        Placement(rng.uniform(9, SIDE - 9), rng.uniform(9, SIDE - 9), rng.uniform(10, 25))
        for _ in scene.things
    ]


def flawed(rng: random.Random) -> Image.Image:
    """One picture as an undertrained generator may draw it."""
    scene = sample_any(rng)
    if rng.random() < 0.25:
        count = rng.choice((0, 1, 2, 3, 3, 3))
        things = [sample_thing(rng) for _ in range(count)]
        if count > 1 and rng.random() < 0.4:
            things[1] = things[0]
        scene = Scene(tuple(things), scene.background)
    side = SIDE * OVERSAMPLING
    canvas = Image.new(
        "RGB", (side, side), _tinted(BACKGROUNDS[scene.background], rng, rng.choice((2, 2, 10)))
    )
    brush = ImageDraw.Draw(canvas)
    spread = rng.choice((3, 3, 14))
    for thing, at in zip(scene.things, _placements(scene, rng), strict=True):
        fill = COLOURS[thing.colour]
        if rng.random() < 0.06:
            other, share = COLOURS[rng.choice(tuple(COLOURS))], rng.random()
            fill = tuple(round((1 - share) * a + share * b) for a, b in zip(fill, other, strict=True))  # type: ignore[assignment]
        brush.polygon(_warped(thing.shape, rng, at), fill=_tinted(fill, rng, spread))
    picture = canvas.reduce(OVERSAMPLING)
    if rng.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    return picture


def allowed(scene: Scene) -> bool:
    """Whether a read scene may be trained on: not too full, and no held-out combination."""
    if len(scene.things) > MOST_THINGS:
        return False
    whole = len(scene.things) in (1, 2) and not any(UNKNOWN in (t.shape, t.colour) for t in scene.things)
    return not (whole and scene.background != UNKNOWN) or split_of(scene) == "train"


def smear(vae: object, pixels: Tensor, seed: int, strength: float = 0.15) -> Tensor:
    """uint8 pictures through an AutoencoderKL, with a little noise on the latents."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    with torch.no_grad():
        for batch in pixels.split(64):
            clean = batch.permute(0, 3, 1, 2).float() / 127.5 - 1
            latents = vae.encode(clean).latent_dist.mean  # type: ignore[attr-defined]
            level = torch.rand(len(batch), 1, 1, 1, generator=generator) * strength * latents.std()
            latents = latents + level * torch.randn(latents.shape, generator=generator)
            out = vae.decode(latents).sample  # type: ignore[attr-defined]
            made.append(((out.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1))
    return torch.cat(made)


def make_seen(count: int, seed: int, vae: object | None = None) -> Seen:
    """`count` labelled pictures: 45 % clean, the rest flawed; with `vae`, 40 % of all go through it."""
    rng = random.Random(seed)
    pictures = [
        render(sample_scene(rng, "train"), rng) if rng.random() < 0.45 else flawed(rng)
        for _ in range(count)
    ]
    pixels = torch.from_numpy(np.stack([np.asarray(p) for p in pictures]))
    if vae is not None:
        chosen = torch.tensor([rng.random() < 0.4 for _ in range(count)]).nonzero()[:, 0]
        pixels[chosen] = smear(vae, pixels[chosen], seed)
    return labelled(pixels)


def labelled(pixels: Tensor) -> Seen:
    """Pictures with the oracle's reading; those that may not be trained on are left out."""
    scenes = [oracle.read(Image.fromarray(p)).loose for p in pixels.numpy()]
    keep = [index for index, scene in enumerate(scenes) if allowed(scene)]
    return Seen(pixels[torch.tensor(keep, dtype=torch.long)], [scenes[index] for index in keep])


def sampled(model: Path, count: int, seed: int) -> Seen:
    """`count` labelled pictures of a text-to-image folder, for training prompts."""
    from diffusers import StableDiffusionPipeline

    from rpo_cli.shapes.recipe.sampling import sample_pictures

    pipeline = StableDiffusionPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    rng = random.Random(seed)
    pictures: list[Image.Image] = []
    while len(pictures) < count:
        scenes = [sample_scene(rng, "train", rng.choice((1, 2, 2, 2))) for _ in range(32)]
        pictures += sample_pictures(pipeline, scenes, rng)
    return labelled(torch.from_numpy(np.stack([np.asarray(p) for p in pictures])))


def join(parts: list[Seen]) -> Seen:
    """Several sets as one."""
    return Seen(torch.cat([p.pixels for p in parts]), [scene for p in parts for scene in p.scenes])


def save_seen(seen: Seen, file: Path) -> None:
    """Write pictures as FILE.npy and their scenes as FILE.json."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".json").write_text(json.dumps([asdict(scene) for scene in seen.scenes]))
    np.save(file.with_suffix(".npy"), seen.pixels.numpy())


def load_seen(folder: Path) -> Seen:
    """Every set that `save_seen` wrote in `folder`; sampled pictures several times, unclear ones most."""
    parts = []
    for file in sorted(folder.glob("*.npy")):
        part = Seen(torch.from_numpy(np.load(file)), _scenes(file.with_suffix(".json")))
        if file.stem.startswith(SAMPLED):
            odd = [any(UNKNOWN in (t.shape, t.colour) for t in scene.things) for scene in part.scenes]
            rows = [i for i, unclear in enumerate(odd) for _ in range(TIMES[unclear])]
            part = Seen(part.pixels[torch.tensor(rows)], [part.scenes[i] for i in rows])
        parts.append(part)
    return join(parts)


def _scenes(file: Path) -> list[Scene]:
    return [
        Scene(tuple(Thing(**thing) for thing in value.pop("things")), **value)
        for value in json.loads(file.read_text())
    ]


def augment(pixels: Tensor) -> Tensor:
    """uint8 (N, H, W, 3) to float (N, 3, H, W) in [-1, 1], half of them noisy, blurred or tinted."""
    count = len(pixels)
    x = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
    gain = 1 + 0.05 * torch.randn(count, 3, 1, 1)
    shift = 0.03 * torch.randn(count, 3, 1, 1)
    noise = torch.randn_like(x) * torch.rand(count, 1, 1, 1) * 0.08
    blurred = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(x, (1, 1, 1, 1), "replicate"), 3, 1)
    soft = torch.rand(count, 1, 1, 1) * (torch.rand(count, 1, 1, 1) < 0.5)
    changed = ((1 - soft) * x + soft * blurred) * gain + shift + noise
    return torch.where(torch.rand(count, 1, 1, 1) < 0.5, x, changed.clamp(-1, 1))


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train seen --count 4000 --seed 1`: one set of pictures."""
    parser = argparse.ArgumentParser(prog="train seen", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(".train/seen"))
    parser.add_argument("--vae", type=Path, default=Path(".train/vae-decoder"))
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--model", type=Path, help="sample from this text-to-image folder instead of drawing"
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.model:
        name = f"{SAMPLED}-{options.seed:03d}"
        return save_seen(sampled(options.model, options.count, options.seed), options.folder / name)
    vae = load_vae(options.vae) if (options.vae / "export").is_dir() else None
    save_seen(make_seen(options.count, options.seed, vae), options.folder / f"{options.seed:03d}")

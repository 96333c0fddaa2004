"""Pairs to latents and text embeddings, once: the VAE in batches, each caption one time."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.bench.plain import denoiser, report

Pair = tuple[str, str, str]  # caption, winner, loser: pictures by hash


def read(dataset: Path) -> tuple[list[Pair], dict[str, bytes]]:
    """The pairs of a dataset's training split, and its pictures."""
    pairs, pictures = [], {}
    for file in sorted(dataset.glob("data/train-*.parquet")):
        for row in pq.read_table(file, columns=["jpg_0", "jpg_1", "label_0", "caption"]).to_pylist():
            sides = [row["jpg_0"], row["jpg_1"]][:: 1 if row["label_0"] == 1 else -1]
            names = [hashlib.sha256(data).hexdigest() for data in sides]
            pictures |= dict(zip(names, sides, strict=True))
            pairs.append((row["caption"], *names))
    return pairs, pictures


def pixels(data: bytes, side: int) -> torch.Tensor:
    """(3, side, side) in [-1, 1]; the pictures are squares."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture = picture if picture.size == (side, side) else picture.resize((side, side), Image.BILINEAR)
    return torch.from_numpy(np.asarray(picture, np.float32) / 127.5 - 1).permute(2, 0, 1)


@torch.no_grad()
def encoded(
    model: Path, pairs: list[Pair], pictures: dict[str, bytes], device: str, batch: int
) -> dict[str, torch.Tensor]:
    """NAME.mean and NAME.std of every picture, CAPTION.PART of every caption."""
    pipe = denoiser.encoders(model, device)
    scale, shift = pipe.vae.config.scaling_factor, pipe.vae.config.shift_factor or 0.0
    side = denoiser_side(model, 2 ** (len(pipe.vae.config.block_out_channels) - 1))
    found, names = {}, sorted(pictures)
    for start in range(0, len(names), batch):
        chunk = names[start : start + batch]
        given = torch.stack([pixels(pictures[name], side) for name in chunk]).to(device)
        posterior = pipe.vae.encode(given).latent_dist
        means, stds = (posterior.mean - shift) * scale, posterior.std * scale
        for name, mean, std in zip(chunk, means.cpu(), stds.cpu(), strict=True):
            found |= {f"{name}.mean": mean.contiguous(), f"{name}.std": std.contiguous()}
    for caption in sorted({caption for caption, *_ in pairs}):
        parts = denoiser.told(pipe, model, caption, side)
        found |= {f"{caption}.{part}": value[0].contiguous() for part, value in parts.items()}
    return found


def denoiser_side(model: Path, factor: int) -> int:
    """Pixels of a side of the pictures that the model draws."""
    kind = denoiser.diffusers.UNet2DConditionModel
    return kind.load_config(model, subfolder=denoiser.denoiser_name(model))["sample_size"] * factor


def cached(file: Path, *what: object) -> dict[str, torch.Tensor]:
    """What `encoded` gave, from the file or into it."""
    if not file.exists():
        save_file(encoded(*what), file)
    return load_file(file)


if __name__ == "__main__":
    parser = report.options(__doc__)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="safetensors file to write")
    told = parser.parse_args()
    pairs, pictures = read(told.dataset)
    values = cached(told.cache, told.model, pairs, pictures, told.device, told.batch)
    report.ended([values[f"{name}.mean"].double().mean().item() for name in sorted(pictures)])

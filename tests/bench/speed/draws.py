"""What chance decides of a training, as a file for the plain scripts: `python -m tests.bench.speed.draws`.

So both sides see the same pairs, noise and first weights, and their losses can be compared.
"""

import argparse
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import save_file

from rpo_cli.records import row_seed
from rpo_cli.train.noise import DrawSettings, seeded, training_draw

SEED = 0  # of a run that was told none
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]


def drawn(pairs: int, steps: int, batch: int, shape: tuple[int, int, int], uses: int) -> dict:
    """(steps, batch, ...) of each: pair, timestep, noise, posterior."""
    settings = DrawSettings(SEED, pairs, 1000, shape, flip=False, caption_dropout=0.0, uses=uses)
    rows = [
        [training_draw(settings, step, place, batch) for place in range(batch)] for step in range(steps)
    ]
    found = {
        name: torch.stack([torch.stack([getattr(draw, name) for draw in row]) for row in rows])
        for name in ("noise", "posterior")
    }
    found |= {
        name: torch.tensor([[getattr(draw, name) for draw in row] for row in rows])
        for name in ("pair", "timestep")
    }
    return found


def first_weights(model: Path, rank: int) -> dict[str, torch.Tensor]:
    """The adapter's first matrices."""
    with torch.device("meta"):
        net = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(model, subfolder="unet"))
    net.add_adapter(LoraConfig(r=rank, target_modules=ATTENTION))
    return {
        name: torch.randn(value.shape, generator=seeded(row_seed(SEED, "lora", name))) / rank
        for name, value in net.named_parameters()
        if "lora_A" in name
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rank", type=int, default=16)
    for name in ("pairs", "steps", "batch", "uses"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    told = parser.parse_args()
    unet = UNet2DConditionModel.load_config(told.model, subfolder="unet")
    shape = (unet["in_channels"], unet["sample_size"], unet["sample_size"])
    found = drawn(told.pairs, told.steps, told.batch, shape, told.uses)
    save_file({**found, **first_weights(told.model, told.rank)}, told.out)


if __name__ == "__main__":
    main()

"""Stable Diffusion 1.x, XL and 3 as a training calls them: denoiser, noise and what captions become."""

import json
from functools import cache
from pathlib import Path

import diffusers
import torch
from diffusers import DDPMScheduler, DiffusionPipeline


def kind(folder: Path) -> str:
    """sd1, sdxl or sd3."""
    name = json.loads((folder / "model_index.json").read_text())["_class_name"]
    return "sdxl" if "XL" in name else "sd3" if "3" in name else "sd1"


def load(folder: Path, dtype: torch.dtype, device: str) -> torch.nn.Module:
    """The denoiser, in evaluation mode."""
    loader = diffusers.SD3Transformer2DModel if kind(folder) == "sd3" else diffusers.UNet2DConditionModel
    net = loader.from_pretrained(folder, subfolder=denoiser_name(folder), torch_dtype=dtype)
    return net.eval().to(device)


def encoders(folder: Path, device: str) -> DiffusionPipeline:
    """The pipeline without its denoiser, in float32."""
    own = {} if kind(folder) == "sd3" else {"unet": None}  # that of SD3 says how wide captions are
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, **absent(folder), **own)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)


def absent(folder: Path) -> dict[str, None]:
    """Parts that the folder says it does not hold."""
    named = json.loads((folder / "model_index.json").read_text()).items()
    return {name: None for name, value in named if value == [None, None]}


def denoiser_name(folder: Path) -> str:
    return "transformer" if kind(folder) == "sd3" else "unet"


@torch.no_grad()
def told(pipe: DiffusionPipeline, folder: Path, caption: str, side: int) -> dict[str, torch.Tensor]:
    """What the denoiser is told of a caption."""
    if kind(folder) == "sd1":
        return {"hidden": pipe.encode_prompt(caption, pipe.device, 1, False)[0].cpu()}
    if kind(folder) == "sd3":
        found = pipe.encode_prompt(caption, caption, caption, pipe.device, 1, False)
        return {"hidden": found[0].cpu(), "pooled": found[2].cpu()}
    found = pipe.encode_prompt(caption, None, pipe.device, 1, False)
    times = torch.tensor([[side, side, 0, 0, side, side]], dtype=torch.float32)
    return {"hidden": found[0].cpu(), "pooled": found[2].cpu(), "time_ids": times}


@cache
def noise_levels(folder: Path) -> DDPMScheduler:
    return DDPMScheduler.from_pretrained(folder, subfolder="scheduler")


def noised(folder: Path, clean: torch.Tensor, noise: torch.Tensor, steps: torch.Tensor) -> tuple:
    """(x_t, what is to be predicted, what the denoiser is told of t)."""
    if kind(folder) == "sd3":
        shift = json.loads((folder / "scheduler/scheduler_config.json").read_text())["shift"]
        at = (steps + 1).float().view(-1, 1, 1, 1) / 1000
        at = shift * at / (1 + (shift - 1) * at)
        return (1 - at) * clean + at * noise, noise - clean, 1000 * at.flatten()
    schedule = noise_levels(folder)
    velocity = schedule.config.prediction_type == "v_prediction"
    wanted = schedule.get_velocity(clean, noise, steps) if velocity else noise
    return schedule.add_noise(clean, noise, steps), wanted, steps


def predict(net: torch.nn.Module, noisy: torch.Tensor, times: torch.Tensor, told: dict) -> torch.Tensor:
    """The denoiser's answer, as the family is called."""
    if "time_ids" in told:
        more = {"text_embeds": told["pooled"], "time_ids": told["time_ids"]}
        return net(noisy, times, told["hidden"], added_cond_kwargs=more, return_dict=False)[0]
    given = (told["hidden"], told["pooled"], times) if "pooled" in told else (times, told["hidden"])
    return net(noisy, *given, return_dict=False)[0]

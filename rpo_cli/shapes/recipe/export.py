"""Writes a training folder as a pipeline folder: fp16 safetensors that carry how they were made.
Works during training.

`python -m rpo_cli.shapes.recipe.train export {text-to-image,editor} [--folder .train/...] [--to DIR]`
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
)
from safetensors.torch import load_file, save_file
from torch import nn

from rpo_cli.shapes.recipe import diffusion, train_editor, train_text_to_image
from rpo_cli.shapes.recipe.tokenizer import build_tokenizer
from rpo_cli.shapes.recipe.train_vae import load_vae
from rpo_cli.shapes.recipe.training import load_average, metadata_before

MODELS = Path(__file__).parent.parent / "models"
PIPELINES = {
    "text-to-image": (train_text_to_image.build_modules, StableDiffusionPipeline),
    "editor": (train_editor.build_modules, StableDiffusionInstructPix2PixPipeline),
}


def assemble(name: str, folder: Path, vae_folder: Path) -> tuple[Any, dict[str, str]]:
    """The pipeline of a training folder (averaged weights, float32) and the metadata of its
    weights.
    """
    build, pipeline_class = PIPELINES[name]
    modules: dict[str, nn.Module] = build()
    metadata = load_average(folder, modules)
    pipeline = pipeline_class(
        vae=load_vae(vae_folder),
        tokenizer=build_tokenizer(),
        scheduler=diffusion.sampling_scheduler(stochastic=name == "text-to-image"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **modules,
    )
    return pipeline, metadata


def stamp(file: Path, metadata: dict[str, str]) -> None:
    """Write `metadata` into a safetensors file."""
    save_file(load_file(file), file, metadata={"format": "pt"} | metadata)
    file.chmod(0o644)


def export(name: str, folder: Path, vae_folder: Path, to: Path) -> None:
    """Write the pipeline folder, fp16."""
    pipeline, metadata = assemble(name, folder, vae_folder)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.half()
    pipeline.save_pretrained(to, safe_serialization=True)
    made_with = {"trained_as": name, **metadata_before(folder), **metadata}
    for part in ("unet", "text_encoder"):
        for file in (to / part).glob("*.safetensors"):
            stamp(file, made_with)
    for file in (to / "vae").glob("*.safetensors"):
        stamp(file, {"trained_as": "vae", **metadata_before(vae_folder), **load_average(vae_folder, {})})


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train export`."""
    parser = argparse.ArgumentParser(prog="train export", description=__doc__)
    parser.add_argument("name", choices=tuple(PIPELINES))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--vae", type=Path, default=Path(".train/vae-decoder"))
    parser.add_argument("--to", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.folder or Path(".train") / options.name
    export(options.name, folder, options.vae, options.to or MODELS / options.name)

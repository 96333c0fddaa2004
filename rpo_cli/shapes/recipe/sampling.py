"""Pictures that the text-to-image model draws of scenes."""

from __future__ import annotations

import random
from typing import Any

import torch
from PIL import Image

from rpo_cli.shapes.grammar import CAPTION_VARIANTS, Scene, caption

STEPS, GUIDANCE = 16, (1.0, 1.2)  # guidance is drawn between the two: flaws of many strengths


def sample_pictures(pipeline: Any, scenes: list[Scene], rng: random.Random) -> list[Image.Image]:
    """One picture per scene, sampled cheaply."""
    prompts = [caption(scene, rng.randrange(CAPTION_VARIANTS)) for scene in scenes]
    generator = torch.Generator().manual_seed(rng.randrange(2**31))
    with torch.no_grad():
        made = pipeline(
            prompts,
            num_inference_steps=STEPS,
            guidance_scale=rng.uniform(*GUIDANCE),
            generator=generator,
            height=64,
            width=64,
        )
    pictures: list[Image.Image] = made.images
    return pictures

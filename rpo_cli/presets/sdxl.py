"""The preset `sdxl`: Stable Diffusion XL, a LoRA on one GPU of 24 GB."""

from typing import Any

from rpo_cli.presets.kinds import (
    CHOSEN,
    JUDGES,
    KLEIN_EDITS,
    PIPELINE,
    SCORES,
    UNTRIED,
    Chosen,
    numbers,
    whole,
)

SDXL = (
    Chosen("generate.generator", "stabilityai/stable-diffusion-xl-base-1.0", CHOSEN, "the model to tune"),
    Chosen("generate.steps", 50, PIPELINE),
    Chosen("generate.guidance", 5.0, PIPELINE),
    Chosen("generate.images_per_prompt", 4, CHOSEN),
    Chosen("generate.batch_size", 4, CHOSEN, "changes memory and time only"),
    Chosen("generate.dtype", "float16", CHOSEN, "its pipeline decodes in float32 where that overflows"),
    *JUDGES,
    *KLEIN_EDITS,
    *SCORES,
    Chosen("train.method", "dpo", CHOSEN),
    *numbers("sdxl", "dpo"),
    Chosen("train.global_batch", 64, CHOSEN, "Salesforce's is 2048, of every weight"),
    Chosen("train.batch_size", 4, CHOSEN, "changes memory and time only"),
    Chosen("train.dtype", "bfloat16", CHOSEN),
    Chosen("train.gradient_checkpointing", True, CHOSEN, "changes memory and time only"),
)


def settings() -> dict[str, Any]:
    """Stable Diffusion XL with a critic, an editor and rewards that fit one GPU of 24 GB, step after step.

    Nothing in it has been run on its weights; its notes say of each setting where it is from.

    Source: rpo_cli/recipes/
    """
    return whole(SDXL, UNTRIED)

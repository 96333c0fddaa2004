"""The preset `sd3.5`: Stable Diffusion 3.5 Medium, a LoRA on one GPU of 24 GB."""

from typing import Any

from rpo_cli.presets.kinds import (
    CHOSEN,
    JUDGES,
    KLEIN_EDITS,
    SCORES,
    UNTRIED,
    Chosen,
    numbers,
    whole,
)

TEMPLATE = "TensorStack's template for this model (its pipeline's defaults are 28 and 7)"

SD35 = (
    Chosen(
        "generate.generator",
        "stabilityai/stable-diffusion-3.5-medium",
        CHOSEN,
        "the model to tune; the hub gives it after its licence is accepted",
    ),
    Chosen("generate.steps", 40, TEMPLATE),
    Chosen("generate.guidance", 4.5, TEMPLATE),
    Chosen("generate.images_per_prompt", 4, CHOSEN),
    Chosen("generate.batch_size", 2, CHOSEN, "changes memory and time only"),
    Chosen("generate.dtype", "bfloat16", CHOSEN),
    *JUDGES,
    *KLEIN_EDITS,
    *SCORES,
    Chosen("train.method", "dpo", CHOSEN),
    *numbers("sd3", "dpo"),
    Chosen("train.global_batch", 64, CHOSEN),
    Chosen("train.batch_size", 2, CHOSEN, "changes memory and time only; 4 hardly fit 24 GB"),
    Chosen("train.dtype", "bfloat16", CHOSEN),
    Chosen("train.gradient_checkpointing", True, CHOSEN, "changes memory and time only"),
)


def settings() -> dict[str, Any]:
    """Stable Diffusion 3.5 Medium with critic, editor and rewards for one GPU of 24 GB, step after step.

    Nothing in it has been run on its weights; its notes say of each setting where it is from.

    Source: rpo_cli/recipes/ and https://huggingface.co/TensorStack/StableDiffusion3.5-Medium-amuse
    """
    return whole(SD35, UNTRIED)

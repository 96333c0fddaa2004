"""The preset `sd15`: Stable Diffusion 1.5 on one GPU of 24 GB."""

from typing import Any

from rpo_cli.presets.kinds import CHOSEN, CODE, JUDGES, PIPELINE, SCORES, UNTRIED, Chosen, whole

SALESFORCE = "Salesforce's launcher of Diffusion-DPO on SD1.5"

SD15 = (
    Chosen(
        "generate.generator", "stable-diffusion-v1-5/stable-diffusion-v1-5", CHOSEN, "the model to tune"
    ),
    Chosen("generate.steps", 50, PIPELINE),
    Chosen("generate.guidance", 7.5, PIPELINE),
    Chosen("generate.images_per_prompt", 4, CHOSEN),
    Chosen("generate.dtype", "float16", CHOSEN),
    *JUDGES,
    Chosen("edit.editor", "timbrooks/instruct-pix2pix", CODE),
    Chosen("edit.scheduler", "EulerAncestralDiscreteScheduler", CODE),
    Chosen("edit.steps", 50, CHOSEN, "half of its pipeline's default"),
    Chosen("edit.guidance", (7.5,), PIPELINE),
    Chosen("edit.image_guidance", (1.5,), PIPELINE),
    Chosen("edit.edits_per_image", 2, CHOSEN, "the better one by pairs.select_by"),
    Chosen("edit.dtype", "float16", CHOSEN),
    *SCORES,
    Chosen("train.method", "dpo", SALESFORCE),
    Chosen("train.beta", 5000.0, SALESFORCE),
    Chosen("train.learning_rate", 1e-5, CHOSEN, "of a LoRA; Salesforce tunes every weight"),
    Chosen("train.global_batch", 64, CHOSEN, "Salesforce's is 2048"),
    Chosen("train.batch_size", 4, CHOSEN, "changes memory and time only"),
    Chosen("train.dtype", "bfloat16", CHOSEN),
    Chosen("train.gradient_checkpointing", True, CHOSEN, "changes memory and time only"),
)


def settings() -> dict[str, Any]:
    """Stable Diffusion 1.5 with a critic, an editor and rewards that fit one GPU of 24 GB, step after step.

    Nothing in it has been run on its weights; its notes say of each setting where it is from.

    Source: rpo_cli/recipes/ and https://github.com/SalesforceAIResearch/DiffusionDPO
    """
    return whole(SD15, UNTRIED)

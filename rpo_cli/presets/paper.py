"""The preset `paper`: RPO as published, as far as its details are known."""

from typing import Any

from rpo_cli.presets.kinds import ABSTRACT, CODE, NEAREST, OURS, Chosen, whole

PAPER = (
    Chosen(
        "generate.generator", "stable-diffusion-v1-5/stable-diffusion-v1-5", CODE, "the model that is tuned"
    ),
    Chosen(
        "critique.critic",
        "llava-hf/llava-onevision-qwen2-7b-ov-hf",
        NEAREST,
        "the model that the authors' critic was tuned from, in a layout that loads. Theirs is "
        "lmms-lab/llava-critic-7b, inferred from the data sets on the first author's hub account in 2025: "
        "published in LLaVA-NeXT's layout, which neither transformers nor vLLM loads",
    ),
    Chosen(
        "critique.backend",
        "vllm-server",
        OURS,
        "its processor needs torchvision, which vLLM's environment has",
    ),
    Chosen("critique.template", "general", OURS, "asks in plain words whether anything is to change"),
    Chosen("critique.single_turn", False, OURS, "the authors had a second model write the instructions"),
    Chosen("critique.max_instructions", 3, CODE),
    Chosen("critique.max_words", 10, CODE),
    Chosen("critique.max_tokens", 1024, CODE),
    Chosen("critique.dtype", "bfloat16", OURS),
    Chosen(
        "edit.backend",
        "instruct-pix2pix",
        CODE,
        "it also had a ControlNet img2img (--backend controlnet-img2img); the paper is said to edit with "
        "ControlNet's ip2p: --editor stable-diffusion-v1-5/stable-diffusion-v1-5 --controlnet "
        "lllyasviel/control_v11e_sd15_ip2p --backend controlnet",
    ),
    Chosen("edit.editor", "timbrooks/instruct-pix2pix", CODE),
    Chosen("edit.scheduler", "EulerAncestralDiscreteScheduler", CODE),
    Chosen("edit.steps", 100, CODE),
    Chosen("edit.guidance", (7.5,), OURS, "the editor's own default"),
    Chosen("edit.image_guidance", (1.5,), OURS, "the editor's own default"),
    Chosen("edit.mode", "joined", OURS),
    Chosen("edit.edits_per_image", 1, CODE),
    Chosen("edit.dtype", "float16", OURS),
    Chosen(
        "score.rewards",
        ("clip=openai/clip-vit-large-patch14",),
        OURS,
        "the authors' is said to be ImageReward, a pickle: rpo convert, then --reward imagereward=FOLDER",
    ),
    Chosen("pairs.strategy", "edits", ABSTRACT),
    Chosen("pairs.labels", "source", CODE, "the pairs that were imported keep people's labels"),
    Chosen("pairs.keep_reversed", True, ABSTRACT, "an edit may lose: the reward relabels"),
    Chosen("pairs.min_margin", 0.5, OURS),
    Chosen("pairs.min_agreement", 1.0, OURS),
    Chosen("train.method", "dpo", ABSTRACT),
    Chosen("train.full", True, CODE, "Salesforce's trainer tunes the whole UNet"),
    Chosen("train.beta", 5000.0, CODE),
    Chosen("train.learning_rate", 2.048e-5, CODE, "1e-8 times the pairs of a step"),
    Chosen("train.global_batch", 2048, CODE, "accumulation 512 on 4 GPUs, one pair each"),
    Chosen("train.steps", 500, CODE),
    Chosen("train.caption_dropout", 0.2, CODE, "the default of Salesforce's trainer"),
    Chosen("train.batch_size", 4, OURS, "changes memory and time only"),
    Chosen("train.gradient_checkpointing", True, OURS, "changes memory and time only"),
)


def settings() -> dict[str, Any]:
    """RPO as published, as far as its details are known; its notes say of each setting whose it is.

    The pairs come from `rpo import` (Pick-a-Pic v2); both pictures of a pair are critiqued and edited.

    Source: Zhao et al. 2025, arXiv:2503.11720; https://github.com/haoxian-chen/Preference-Tuning-rich-feedback
    """
    first = (
        "Settings follow RPO (arXiv:2503.11720) as far as its details are known; the paper's own tables, "
        "thresholds and guidance scales could not be read, so no figure of it is claimed here."
    )
    return whole(PAPER, first)

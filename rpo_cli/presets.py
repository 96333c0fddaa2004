"""Presets that are no more than settings. The embedded world has its own, `shapes/preset.py`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# where a value of the preset `paper` is from
CODE = "the authors' development repository of 2024, which came before the paper"
HUB = "inferred from the data sets on the first author's hub account in 2025"
ABSTRACT = "the paper's abstract"
OURS = "ours: the authors' value is not known to us"


@dataclass(frozen=True)
class Chosen:
    """A setting of a preset, where its value is from, and what to know about it."""

    name: str
    value: Any
    whose: str
    why: str = ""


PAPER = (
    Chosen(
        "generate.generator", "stable-diffusion-v1-5/stable-diffusion-v1-5", CODE, "the model that is tuned"
    ),
    Chosen(
        "critique.critic", "lmms-lab/llava-critic-7b", HUB, "its published layout must be converted first"
    ),
    Chosen("critique.template", "rpo", OURS, "in the style of the paper's overview figure"),
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


# where a value of the preset `sd15` is from
PIPELINE = "the defaults of their pipelines in diffusers 0.42.1"
SALESFORCE = "Salesforce's launcher of Diffusion-DPO on SD1.5"
CHOSEN = "ours, untried on real weights"

SD15 = (
    Chosen(
        "generate.generator", "stable-diffusion-v1-5/stable-diffusion-v1-5", CHOSEN, "the model to tune"
    ),
    Chosen("generate.steps", 50, PIPELINE),
    Chosen("generate.guidance", 7.5, PIPELINE),
    Chosen("generate.images_per_prompt", 4, CHOSEN),
    Chosen("generate.dtype", "float16", CHOSEN),
    Chosen("critique.critic", "Qwen/Qwen3-VL-8B-Instruct", CHOSEN, "18 GB of weights: a GPU of 24 GB"),
    Chosen("critique.backend", "vllm-server", CHOSEN, "ends before the editor loads"),
    Chosen("critique.dtype", "bfloat16", CHOSEN),
    Chosen("critique.max_tokens", 1024, CHOSEN, "as the preset gpu"),
    Chosen("critique.in_flight", 32, CHOSEN, "as the preset gpu"),
    Chosen("critique.server_args", ("--max-model-len=16384",), CHOSEN, "as the preset gpu: it fits 24 GB"),
    Chosen("edit.editor", "timbrooks/instruct-pix2pix", CODE),
    Chosen("edit.scheduler", "EulerAncestralDiscreteScheduler", CODE),
    Chosen("edit.steps", 50, CHOSEN, "half of its pipeline's default"),
    Chosen("edit.guidance", (7.5,), PIPELINE),
    Chosen("edit.image_guidance", (1.5,), PIPELINE),
    Chosen("edit.edits_per_image", 2, CHOSEN, "the better one by pairs.select_by"),
    Chosen("edit.dtype", "float16", CHOSEN),
    Chosen(
        "score.rewards",
        ("clip=openai/clip-vit-large-patch14", "vqascore=Qwen/Qwen3-VL-8B-Instruct"),
        CHOSEN,
        "one chooses the attempt, both must agree that it is better",
    ),
    Chosen("score.backend", "vllm-server", CHOSEN, "of vqascore"),
    Chosen("pairs.strategy", "all", CHOSEN, "best and worst seed cost nothing beside the edits"),
    Chosen("pairs.select_by", "clip", CHOSEN),
    Chosen("train.method", "dpo", SALESFORCE),
    Chosen("train.beta", 5000.0, SALESFORCE),
    Chosen("train.learning_rate", 1e-5, CHOSEN, "of a LoRA; Salesforce tunes every weight"),
    Chosen("train.global_batch", 64, CHOSEN, "Salesforce's is 2048"),
    Chosen("train.batch_size", 4, CHOSEN, "changes memory and time only"),
    Chosen("train.dtype", "bfloat16", CHOSEN),
    Chosen("train.gradient_checkpointing", True, CHOSEN, "changes memory and time only"),
)


def sd15() -> dict[str, Any]:
    """Stable Diffusion 1.5 with a critic, an editor and rewards that fit one GPU of 24 GB, step after step.

    Nothing in it has been run on its weights; its notes say of each setting where it is from.

    Source: rpo_cli/recipes/ and https://github.com/SalesforceAIResearch/DiffusionDPO
    """
    first = "Untried as a whole: no hub and no GPU was at hand where these settings were put together."
    return {**_settings(SD15), "notes": (first, *_notes(SD15))}


def paper() -> dict[str, Any]:
    """RPO as published, as far as its details are known; its notes say of each setting whose it is.

    The pairs come from `rpo import` (Pick-a-Pic v2); both pictures of a pair are critiqued and edited.

    Source: Zhao et al. 2025, arXiv:2503.11720; https://github.com/haoxian-chen/Preference-Tuning-rich-feedback
    """
    first = (
        "Settings follow RPO (arXiv:2503.11720) as far as its details are known; the paper's own tables, "
        "thresholds and guidance scales could not be read, so no figure of it is claimed here."
    )
    return {**_settings(PAPER), "notes": (first, *_notes(PAPER))}


# preset → its settings with their origin; of another one that is ours, whose all of them are
TABLES = {"paper": PAPER, "sd15": SD15}
WHOSE = {"shapes": "ours, for the embedded models", "gpu": "ours, from the model's documentation"}


def explained(preset: str, settings: Mapping[str, Mapping[str, Any]]) -> list[Chosen]:
    """Every setting of a preset with its origin, as far as the preset says it."""
    known = {item.name: item for item in TABLES.get(preset, ())}
    flat = {f"{section}.{key}": value for section, keys in settings.items() for key, value in keys.items()}
    whose = WHOSE.get(preset, "the preset's own")
    return [known.get(name, Chosen(name, value, whose)) for name, value in flat.items()]


def _settings(items: Sequence[Chosen]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for item in items:
        section, _, key = item.name.partition(".")
        settings.setdefault(section, {})[key] = item.value
    return settings


def _notes(items: Sequence[Chosen]) -> Iterator[str]:
    for whose in dict.fromkeys(item.whose for item in items):
        said = [
            f"{item.name} = {_short(item.value)}" + (f" ({item.why})" if item.why else "")
            for item in items
            if item.whose == whose
        ]
        yield (
            f"From {whose}: {', '.join(said)}."
            if whose not in (OURS, CHOSEN)
            else f"{whose.capitalize()}: {', '.join(said)}."
        )


def _short(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def none() -> dict[str, Any]:
    """No settings at all: whoever runs a command names its models; numbers are theirs or the method's."""
    return {}

"""What a preset is made of: settings and facts, each with its origin."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rpo_cli.recipes.training import NUMBERS, Number

# where a value is from
CODE = "the authors' development repository of 2024, which came before the paper"
ABSTRACT = "the paper's abstract"
OURS = "ours: the authors' value is not known to us"
NEAREST = "the nearest that loads"
PIPELINE = "the defaults of their pipelines in diffusers 0.42.1"
CHOSEN = "ours, untried on real weights"
UNTRIED = "Untried as a whole: no hub and no GPU was at hand where these settings were put together."


@dataclass(frozen=True)
class Chosen:
    """A setting of a preset, where its value is from, and what to know about it."""

    name: str
    value: Any
    whose: str
    why: str = ""


@dataclass(frozen=True)
class Fact:
    """What using a preset takes, beside its settings, and where that is from."""

    what: str
    value: str
    origin: str


def numbers(family: str, method: str) -> tuple[Chosen, ...]:
    """β and learning rate of a LoRA of this family, from the table of published ones."""
    found = NUMBERS[family, method, False]
    said = {"train.beta": found.beta, "train.learning_rate": found.learning_rate}
    return tuple(
        Chosen(name, number.value, number.source)
        for name, number in said.items()
        if isinstance(number, Number)
    )


# of a LoRA on one GPU: critic and rewards that judge for any family
JUDGES = (
    Chosen("critique.critic", "Qwen/Qwen3-VL-8B-Instruct", CHOSEN, "17.5 GB of weights: a GPU of 24 GB"),
    Chosen("critique.backend", "vllm-server", CHOSEN, "ends before the editor loads"),
    Chosen("critique.dtype", "bfloat16", CHOSEN),
    Chosen("critique.max_tokens", 1024, CHOSEN, "as the preset gpu"),
    Chosen("critique.server_args", ("--max-model-len=16384",), CHOSEN, "as the preset gpu: it fits 24 GB"),
)
SCORES = (
    Chosen(
        "score.rewards",
        ("clip=openai/clip-vit-large-patch14", "vqascore=Qwen/Qwen3-VL-8B-Instruct"),
        CHOSEN,
        "one chooses the attempt, both must agree that it is better",
    ),
    Chosen("score.backend", "vllm-server", CHOSEN, "of vqascore"),
    Chosen("score.dtype", "bfloat16", CHOSEN, "in float32 the weights of vqascore's model take 35 GB"),
    Chosen("pairs.strategy", "all", CHOSEN, "best and worst seed cost nothing beside the edits"),
    Chosen("pairs.select_by", "clip", CHOSEN),
)
KLEIN = "README of black-forest-labs/flux2 (4 steps, guidance-distilled)"
# for families whose own editors forbid commercial use, or need a ControlNet
KLEIN_EDITS = (
    Chosen(
        "edit.editor",
        "black-forest-labs/FLUX.2-klein-4B",
        CHOSEN,
        "Apache-2.0; CosXL Edit forbids commercial use, UltraEdit is of another licence",
    ),
    Chosen("edit.steps", 4, KLEIN),
    Chosen("edit.edits_per_image", 2, CHOSEN, "the better one by pairs.select_by"),
    Chosen("edit.batch_size", 2, CHOSEN, "changes memory and time only"),
    Chosen("edit.dtype", "bfloat16", CHOSEN, "as its weights are published"),
)


def whole(items: Sequence[Chosen], first: str) -> dict[str, Any]:
    """The settings of a preset by section, and notes that say of each whose it is."""
    settings: dict[str, Any] = {}
    for item in items:
        section, _, key = item.name.partition(".")
        settings.setdefault(section, {})[key] = item.value
    return {**settings, "notes": (first, *_notes(items))}


def _notes(items: Sequence[Chosen]) -> Iterator[str]:
    for whose in dict.fromkeys(item.whose for item in items):
        said = [
            f"{item.name} = {_short(item.value)}" + (f" ({item.why})" if item.why else "")
            for item in items
            if item.whose == whose
        ]
        yield (
            f"From {whose}: {', '.join(said)}."
            if whose not in (OURS, CHOSEN, NEAREST)
            else f"{whose[:1].upper()}{whose[1:]}: {', '.join(said)}."
        )


def _short(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

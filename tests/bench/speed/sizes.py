"""How large the models of a size are, and how much each row does with them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
EMBEDDED = ROOT / "rpo_cli" / "shapes" / "models"


@dataclass(frozen=True)
class Shape:
    """Of models with random weights.

    Attributes:
        side: of a picture, in pixels.
        unet, vae: channels of every level.
        text, clip, critic, eye: of the configurations of transformers.
    """

    side: int
    unet: tuple[int, ...]
    vae: tuple[int, ...]
    text: dict[str, Any]
    clip: dict[str, Any]
    critic: dict[str, Any]
    eye: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """What is measured with the models of a size.

    Attributes:
        shape: of drawn models; None: the embedded ones.
        turns: pairs of measurements, where the command line says nothing else.
        prompts, batch: that are drawn, two pictures each; pictures of one call.
        steps: denoising steps of a picture.
        pairs: that are imported, critiqued, edited, scored.
        trained: pairs of a training, one pass and optimiser step of `train_batch` each.
        train_steps: optimiser steps.
        tokens: of a critic's longest reply.
        photos: pictures of an import that is built, and built again.
    """

    shape: Shape | None
    turns: int
    side: int
    prompts: int
    batch: int
    steps: int
    pairs: int
    trained: int
    train_batch: int
    train_steps: int
    encode_batch: int
    tokens: int
    photos: int


QUARTER = Shape(
    side=256,
    unet=(160, 320, 640, 640),
    vae=(64, 128, 256, 256),
    text={
        "vocab_size": 49408,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
    },
    clip={
        "projection_dim": 512,
        "text_config": {"max_position_embeddings": 77, "bos_token_id": 659, "eos_token_id": 660},
        "vision_config": {"image_size": 224, "patch_size": 32},
    },
    critic={
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 15,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
    },
    eye={"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6, "num_hidden_layers": 6},
)
WHOLE = Shape(
    side=512,
    unet=(320, 640, 1280, 1280),
    vae=(128, 256, 512, 512),
    text={
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
    },
    clip={
        "projection_dim": 768,
        "text_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "max_position_embeddings": 77,
            "bos_token_id": 659,
            "eos_token_id": 660,
        },
        "vision_config": {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 224,
            "patch_size": 14,
        },
    },
    critic={
        "hidden_size": 960,
        "intermediate_size": 2560,
        "num_hidden_layers": 32,
        "num_attention_heads": 15,
        "num_key_value_heads": 5,
        "head_dim": 64,
    },
    eye={"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
)
SIZES = {
    "shapes": Size(
        None,
        turns=3,
        side=64,
        prompts=64,
        batch=16,
        steps=24,
        pairs=64,
        trained=64,
        train_batch=16,
        train_steps=40,
        encode_batch=8,
        tokens=160,
        photos=0,
    ),
    "quarter": Size(
        QUARTER,
        turns=2,
        side=256,
        prompts=4,
        batch=4,
        steps=8,
        pairs=4,
        trained=8,
        train_batch=1,
        train_steps=4,
        encode_batch=4,
        tokens=48,
        photos=0,
    ),
    "whole": Size(
        WHOLE,
        turns=1,
        side=512,
        prompts=1,
        batch=2,
        steps=4,
        pairs=1,
        trained=2,
        train_batch=1,
        train_steps=4,
        encode_batch=1,
        tokens=32,
        photos=300,
    ),
}
# what a rehearsal does: every row once, with next to nothing
REHEARSAL = Size(
    None,
    turns=1,
    side=64,
    prompts=2,
    batch=4,
    steps=4,
    pairs=2,
    trained=4,
    train_batch=2,
    train_steps=2,
    encode_batch=4,
    tokens=160,
    photos=8,
)

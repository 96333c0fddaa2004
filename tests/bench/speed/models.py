"""Models of a size, their weights drawn at random: `python -m tests.bench.speed.models SIZE FOLDER`.

Their layouts are those of the embedded ones, whose tokenizers they take; a part is made once.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.bench.speed.sizes import EMBEDDED, SIZES, Shape

PARTS = ("text-to-image", "editor", "reward", "critic")


def draw(size: str, folder: Path) -> None:
    """FOLDER/PART for every part that is not there yet."""
    import torch

    shape = SIZES[size].shape
    assert shape is not None, "the embedded models are not drawn"
    for part, make in zip(PARTS, (_pipeline, _editor, _reward, _critic), strict=True):
        if not (folder / part).exists():
            draft = folder / f".{part}"
            shutil.rmtree(draft, ignore_errors=True)
            torch.manual_seed(0)
            make(draft, shape)
            draft.rename(folder / part)


def _pipeline(folder: Path, shape: Shape) -> None:
    pipeline(shape).save_pretrained(folder)


def pipeline(shape: Shape) -> Any:
    """Stable Diffusion 1.x."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = EMBEDDED / "text-to-image" / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(words, model_max_length=shape.text["max_position_embeddings"])
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = CLIPTextModel(CLIPTextConfig(**shape.text, **ends, pad_token_id=tokenizer.pad_token_id))
    levels = len(shape.vae)
    vae = AutoencoderKL(
        block_out_channels=shape.vae,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=2,
        latent_channels=4,
        sample_size=shape.side,
        scaling_factor=0.18215,
    )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    parts = (vae, text, tokenizer, _unet(shape, 4), scheduler, None, None)
    return StableDiffusionPipeline(*parts, requires_safety_checker=False)


def _unet(shape: Shape, channels: int) -> Any:
    from diffusers import UNet2DConditionModel

    levels = len(shape.unet) - 1
    return UNet2DConditionModel(
        sample_size=shape.side // 2 ** (len(shape.vae) - 1),
        in_channels=channels,
        block_out_channels=shape.unet,
        layers_per_block=2,
        down_block_types=(*("CrossAttnDownBlock2D",) * levels, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * levels),
        cross_attention_dim=shape.text["hidden_size"],
        attention_head_dim=8,
    )


def _editor(folder: Path, shape: Shape) -> None:
    """InstructPix2Pix: the pipeline's own parts, by hard links, and a UNet that sees a picture too."""
    source = folder.parent / "text-to-image"
    shutil.copytree(source, folder, copy_function=os.link, ignore=shutil.ignore_patterns("unet"))
    index = json.loads((source / "model_index.json").read_text())
    (folder / "model_index.json").unlink()
    named = {**index, "_class_name": "StableDiffusionInstructPix2PixPipeline"}
    (folder / "model_index.json").write_text(json.dumps(named))
    _unet(shape, 8).save_pretrained(folder / "unet")


def _reward(folder: Path, shape: Shape) -> None:
    from transformers import CLIPConfig, CLIPModel

    _words("reward", folder)
    settings = json.loads((folder / "processor_config.json").read_text())
    side = shape.clip["vision_config"]["image_size"]
    settings["image_processor"] |= {
        "crop_size": {"height": side, "width": side},
        "size": {"shortest_edge": side},
    }
    (folder / "processor_config.json").write_text(json.dumps(settings))
    CLIPModel(CLIPConfig(**shape.clip)).save_pretrained(folder)


def _critic(folder: Path, shape: Shape) -> None:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    _words("critic", folder)
    known = json.loads((EMBEDDED / "critic" / "config.json").read_text())
    text = {**known["text_config"], **shape.critic}
    eye = {**known["vision_config"], **shape.eye}
    config = Idefics3Config(**{**known, "text_config": text, "vision_config": eye})
    Idefics3ForConditionalGeneration(config).save_pretrained(folder)


def _words(part: str, folder: Path) -> None:
    """What is beside the weights of an embedded model."""
    left = shutil.ignore_patterns("*.safetensors", "config.json")
    shutil.copytree(EMBEDDED / part, folder, ignore=left)


if __name__ == "__main__":
    draw(sys.argv[1], Path(sys.argv[2]))

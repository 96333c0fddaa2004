"""Models in the true shapes of families, their weights drawn at random: an entry a family, and no hub.

`python -m tests.bench.gpu.families NAME FOLDER DEVICE [small]` draws one.
"""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.speed.sizes import EMBEDDED, WHOLE

CLIP_L = {**WHOLE.text, "projection_dim": 768}
CLIP_G = {
    **WHOLE.text,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
SDXL = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
SD35_MEDIUM = {
    "sample_size": 128,
    "patch_size": 2,
    "in_channels": 16,
    "num_layers": 24,
    "attention_head_dim": 64,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 1536,
    "pooled_projection_dim": 2048,
    "out_channels": 16,
    "pos_embed_max_size": 384,
    "qk_norm": "rms_norm",
    "dual_attention_layers": tuple(range(13)),
}
QWEN3_VL_4B = {
    "text": {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rope_parameters": {"rope_type": "default", "mrope_section": [24, 20, 20], "rope_theta": 5e6},
    },
    "vision": {
        "depth": 24,
        "hidden_size": 1024,
        "out_hidden_size": 2560,
        "intermediate_size": 4096,
        "num_heads": 16,
        "patch_size": 16,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17],
    },
}


@dataclass(frozen=True)
class Family:
    """What is measured of a family.

    Attributes:
        draw: writes its folder.
        side: of its pictures, in pixels.
        pairs: of an optimiser step, and of one pass.
    """

    draw: Callable[[Path], None]
    side: int
    pairs: tuple[int, int] = (0, 0)


def _clip_words() -> Any:
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(EMBEDDED / "text-to-image" / "tokenizer", model_max_length=77)


def _text(config: dict[str, Any], *, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = _clip_words()
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    return kind(CLIPTextConfig(**config, **ends, pad_token_id=words.pad_token_id))


def _vae(side: int, **config: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=WHOLE.vae,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        sample_size=side,
        **config,
    )


def _saved(pipe: Any, folder: Path) -> None:
    """In half precision, as people download them."""
    import torch

    pipe.to(dtype=torch.bfloat16)
    pipe.save_pretrained(folder)


def sd15(folder: Path) -> None:
    from tests.bench.speed.models import pipeline

    _saved(pipeline(WHOLE), folder)


def sdxl(folder: Path) -> None:
    from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    words, schedule = _clip_words(), {"beta_schedule": "scaled_linear", "beta_start": 0.00085}
    scheduler = DDIMScheduler(**schedule, beta_end=0.012, clip_sample=False, steps_offset=1)
    texts = _text(CLIP_L, projected=False), _text(CLIP_G, projected=True)
    parts = (_vae(1024, latent_channels=4, scaling_factor=0.13025), *texts, words, words)
    unet = UNet2DConditionModel(**SDXL)
    _saved(StableDiffusionXLPipeline(*parts, unet, scheduler, add_watermarker=False), folder)


def sd35(folder: Path) -> None:
    """Without its T5, which is larger than all the rest and takes no part in a step."""
    from diffusers import FlowMatchEulerDiscreteScheduler as Flow
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline

    words, scale = _clip_words(), {"scaling_factor": 1.5305, "shift_factor": 0.0609}
    vae = _vae(1024, latent_channels=16, use_quant_conv=False, use_post_quant_conv=False, **scale)
    net = SD3Transformer2DModel(**SD35_MEDIUM)
    texts = _text(CLIP_L, projected=True), words, _text(CLIP_G, projected=True), words
    _saved(StableDiffusion3Pipeline(net, Flow(shift=3.0), vae, *texts, None, None), folder)


def qwen3_vl(folder: Path) -> None:
    """Its own classes and processor, which need torchvision, on a tokenizer of bytes."""
    import torch
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    from tests.backends import tiny_hpsv3

    words = tiny_hpsv3.tokenizer()
    names = {"image": "<|image_pad|>", "vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
    ids = {f"{name}_token_id": words.convert_tokens_to_ids(token) for name, token in names.items()}
    text = {**QWEN3_VL_4B["text"], "vocab_size": 151936}
    ids |= {"tie_word_embeddings": True}
    config = Qwen3VLConfig(text_config=text, vision_config=QWEN3_VL_4B["vision"], **ids)
    net = Qwen3VLForConditionalGeneration(config).to(torch.bfloat16)
    net.generation_config.eos_token_id = words.eos_token_id
    net.save_pretrained(folder)
    eye = Qwen2VLImageProcessor(patch_size=16)
    made = Qwen3VLProcessor(eye, words, Qwen3VLVideoProcessor(), chat_template=tiny_hpsv3.TEMPLATE)
    made.save_pretrained(folder)


def idefics3(folder: Path) -> None:
    """The embedded critic's own shape: for rehearsals, where torchvision is not there."""
    shutil.copytree(EMBEDDED / "critic", folder)


def _tiny(name: str) -> Callable[[Path], None]:
    def draw(folder: Path) -> None:
        from tests.train.families.conftest import MAKERS

        MAKERS[name](folder.with_name(f"{folder.name}-words")).save_pretrained(folder)

    return draw


TRUE = {
    "sd15": Family(sd15, 512, (32, 16)),
    "sdxl": Family(sdxl, 1024, (8, 4)),
    "sd3.5-medium": Family(sd35, 1024, (8, 1)),
    "qwen3-vl": Family(qwen3_vl, 512),
}
SMALL = {
    "sd15": Family(_tiny("sd1"), 16, (2, 1)),
    "sdxl": Family(_tiny("sdxl"), 16, (2, 1)),
    "sd3.5-medium": Family(_tiny("sd3-without-t5"), 16, (2, 1)),
    "qwen3-vl": Family(idefics3, 64),
}


def main() -> None:
    import torch

    name, place, device, *small = sys.argv[1:]
    folder = Path(place)
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    torch.manual_seed(0)
    with torch.device(device):
        (SMALL if small else TRUE)[name].draw(draft)
    draft.rename(folder)


if __name__ == "__main__":
    main()

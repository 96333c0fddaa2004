"""Qwen-Image-Edit's real pipelines, put together here: its processor needs torchvision, which is absent.

The processor's work (pictures to patches, one token per merged patch) is done by transformers' own image
processor and twelve lines below. `make test-qwen` loads whole folders (tests/qwen).
"""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageEditPipeline,
    QwenImageEditPlusPipeline,
    QwenImageTransformer2DModel,
)
from PIL import Image
from transformers import (
    BatchFeature,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from rpo_cli.backends.flow_editors import QwenImageEditor
from rpo_cli.protocols import EditRequest, Weights
from rpo_cli.recipes import recipe
from tests.tiny_editors import word_tokenizer

PAD, VIDEO, START, END = "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"
NAMES = {"qwen-image-edit": QwenImageEditPipeline, "qwen-image-edit-plus": QwenImageEditPlusPipeline}
WIDTH = 16


class Processor:
    """What the pipelines ask of Qwen2VLProcessor."""

    def __init__(self, tokenizer):
        self.tokenizer, self.pictures = tokenizer, Qwen2VLImageProcessorPil()

    def __call__(self, text, images, padding, return_tensors):
        seen = self.pictures(images=images, return_tensors="pt")
        counts = iter((seen["image_grid_thw"].prod(-1) // self.pictures.merge_size**2).tolist())
        grown = [
            "".join(piece + PAD * next(counts) for piece in pieces[:-1]) + pieces[-1]
            for pieces in (line.split(PAD) for line in text)
        ]
        words = self.tokenizer(grown, padding=padding, return_tensors="pt")
        return BatchFeature({**words, **seen})


def text_encoder(tokenizer):
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in (PAD, START, END)}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "bos_token_id": None,
            "eos_token_id": tokenizer.eos_token_id,
            "hidden_size": WIDTH,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 1e6},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "out_hidden_size": WIDTH,
            "intermediate_size": 16,
            "num_heads": 1,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids[PAD],
        vision_start_token_id=ids[START],
        vision_end_token_id=ids[END],
    )
    return Qwen2_5_VLForConditionalGeneration(config).eval()


def parts(name):
    """Tiny components of the pipeline, all but its processor."""
    torch.manual_seed(0)
    tokenizer = word_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [PAD, VIDEO, START, END]})
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=WIDTH,
        axes_dims_rope=(4, 6, 6),
    )
    autoencoder = AutoencoderKLQwenImage(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    return {
        "scheduler": scheduler,
        "vae": autoencoder,
        "text_encoder": text_encoder(tokenizer),
        "tokenizer": tokenizer,
        "transformer": transformer,
    }


def editor(name):
    made = parts(name)
    pipe = NAMES[name](**made, processor=Processor(made["tokenizer"]))
    pipe.set_progress_bar_config(disable=True)
    made = QwenImageEditor(Weights("nowhere"), steps=1)
    made._pipe = pipe
    return made


def picture(seed, size=(48, 32)):
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_qwen_edits_row_by_row_at_its_own_size_and_gives_the_pictures(name):
    made, guidance = editor(name), recipe("editors", name).guidance
    rows = [EditRequest(picture(1), "make it red", 1), EditRequest(picture(2), "a blue circle", 2)]
    together = made.edit(rows, guidance=guidance, image_guidance=None)
    (alone,) = made.edit(rows[1:], guidance=guidance, image_guidance=None)

    assert [found.size for found in together] == [(48, 32)] * 2
    assert np.array_equal(np.asarray(together[1]), np.asarray(alone))
    assert not np.array_equal(np.asarray(together[0]), np.asarray(together[1]))

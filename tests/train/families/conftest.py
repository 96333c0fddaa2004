"""A tiny random pipeline of every family, built from configs alone: 16-pixel pictures, 8 x 8 latents."""

import json
import string
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from rpo_cli.train.families.family import open_family

SIDE, LATENT = 16, 8
WIDTH = 16  # of every text encoder


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    letters = list(string.ascii_lowercase)
    vocabulary = {word: i for i, word in enumerate([*letters, *(f"{w}</w>" for w in letters)])}
    vocabulary |= {"<|startoftext|>": len(vocabulary), "<|endoftext|>": len(vocabulary) + 1}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=16)


def clip(tokenizer: CLIPTokenizer, *, projected: bool) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def t5() -> tuple[T5TokenizerFast, T5EncoderModel]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in string.ascii_lowercase]
    tokenizer = T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=len(pieces), d_model=32, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return tokenizer, T5EncoderModel(config).eval()


def vae(**config: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
        **config,
    )


def sd1(folder: Path) -> StableDiffusionPipeline:
    tokenizer = clip_tokenizer(folder)
    unet = UNet2DConditionModel(
        sample_size=LATENT,
        block_out_channels=(8, 16),
        layers_per_block=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    text = clip(tokenizer, projected=False)
    return StableDiffusionPipeline(
        vae(), text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )


def sdxl(folder: Path) -> StableDiffusionXLPipeline:
    """The blocks of SDXL base: none, two and two levels with attention, two layers each."""
    tokenizer = clip_tokenizer(folder)
    unet = UNet2DConditionModel(
        sample_size=LATENT,
        block_out_channels=(8, 8, 16),
        layers_per_block=2,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 2),
        cross_attention_dim=2 * WIDTH,
        attention_head_dim=(2, 2, 4),
        use_linear_projection=True,
        norm_num_groups=4,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
    )
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    texts = clip(tokenizer, projected=False), clip(tokenizer, projected=True)
    return StableDiffusionXLPipeline(
        vae(force_upcast=True), *texts, tokenizer, tokenizer, unet, scheduler, add_watermarker=False
    )


def sd3(folder: Path, *, with_t5: bool = True) -> StableDiffusion3Pipeline:
    tokenizer = clip_tokenizer(folder)
    transformer = SD3Transformer2DModel(
        sample_size=LATENT,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
        pos_embed_max_size=16,
    )
    t5_tokenizer, t5_encoder = t5() if with_t5 else (None, None)
    return StableDiffusion3Pipeline(
        transformer,
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae(shift_factor=0.06, scaling_factor=1.53),
        clip(tokenizer, projected=True),
        tokenizer,
        clip(tokenizer, projected=True),
        tokenizer,
        t5_encoder,
        t5_tokenizer,
    )


def flux(folder: Path, *, distilled: bool = True) -> FluxPipeline:
    tokenizer = clip_tokenizer(folder)
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=12,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=WIDTH,
        guidance_embeds=distilled,
        axes_dims_rope=(4, 4, 4),
    )
    t5_tokenizer, t5_encoder = t5()
    return FluxPipeline(
        FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0),
        vae(shift_factor=0.1, scaling_factor=0.36),
        clip(tokenizer, projected=False),
        tokenizer,
        t5_encoder,
        t5_tokenizer,
        transformer,
    )


MAKERS = {
    "sd1": sd1,
    "sdxl": sdxl,
    "sd3": sd3,
    "sd3-without-t5": lambda folder: sd3(folder, with_t5=False),
    "flux": flux,
    "flux-schnell": lambda folder: flux(folder, distilled=False),
}


@pytest.fixture(scope="session")
def model_of(tmp_path_factory):
    """Folder of a tiny model, by the names of MAKERS; made once."""
    made = {}

    def call(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            folder = tmp_path_factory.mktemp(name)
            pipeline = MAKERS[name](folder / "vocabulary")
            pipeline.save_pretrained(folder / "model")
            made[name] = folder / "model"
        return made[name]

    return call


@pytest.fixture(scope="session")
def opened(model_of):
    """The family adapter of a tiny model, and the whole pipeline that diffusers itself makes of it."""
    made = {}

    def call(name: str) -> SimpleNamespace:
        if name not in made:
            absent = {"text_encoder_3": None, "tokenizer_3": None} if name == "sd3-without-t5" else {}
            pipeline = DiffusionPipeline.from_pretrained(model_of(name), **absent)
            pipeline.set_progress_bar_config(disable=True)
            made[name] = SimpleNamespace(family=open_family(str(model_of(name))), pipeline=pipeline)
        return made[name]

    return call

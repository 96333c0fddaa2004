"""A tiny random folder of every editor and generator that needs no more than ours, from configs alone."""

from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLFlux2,
    ControlNetModel,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxKontextPipeline,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    SD3Transformer2DModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionXLInstructPix2PixPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from tests.train.families.conftest import flux, sd1, sd3, sdxl

CHAT = "{% for message in messages %}{{ message.content }}{% endfor %}"


def without_checker(pipeline, parts):
    return pipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def widened(unet, channels, **config):
    """The same kind of UNet with another number of input channels."""
    return UNet2DConditionModel.from_config(unet.config, in_channels=channels, **config)


def instruct_pix2pix(folder):
    base = sd1(folder)
    parts = {name: getattr(base, name) for name in ("vae", "text_encoder", "tokenizer", "scheduler")}
    return without_checker(StableDiffusionInstructPix2PixPipeline, {**parts, "unet": widened(base.unet, 8)})


def sdxl_instruct_pix2pix(folder, scheduler=None):
    base = sdxl(folder)
    names = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    parts = {name: getattr(base, name) for name in names}
    return StableDiffusionXLInstructPix2PixPipeline(
        **parts, unet=widened(base.unet, 8), scheduler=scheduler or base.scheduler, add_watermarker=False
    )


def cosxl(folder):
    return sdxl_instruct_pix2pix(folder, EDMEulerScheduler(prediction_type="v_prediction"))


def controlnet_model(unet):
    """With weights in the layers that training starts from zero, so that the picture has an effect."""
    made = ControlNetModel.from_unet(unet, conditioning_channels=3)
    made = ControlNetModel.from_config(made.config, conditioning_embedding_out_channels=(8, 8))
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return made


def controlnet(folder):
    base = sd1(folder)
    parts = {
        name: getattr(base, name) for name in ("vae", "text_encoder", "tokenizer", "scheduler", "unet")
    }
    return without_checker(
        StableDiffusionControlNetPipeline, {**parts, "controlnet": controlnet_model(base.unet)}
    )


class UltraEdit:
    """SD3's parts under the class name that the authors' folder has; noise, picture and mask go in."""

    def __init__(self, folder, seen=2):
        self._pipe = sd3(folder)
        wide = {**self._pipe.transformer.config, "in_channels": (1 + seen) * 4}
        self._pipe.transformer = SD3Transformer2DModel.from_config(wide)

    def save_pretrained(self, folder):
        self._pipe.save_pretrained(folder)
        index = Path(folder, "model_index.json")
        name = '"StableDiffusion3InstructPix2PixPipeline"'
        index.write_text(index.read_text().replace('"StableDiffusion3Pipeline"', name))


def kontext(folder):
    return FluxKontextPipeline(**flux(folder).components)


def klein(folder, *, distilled=True):
    tokenizer = word_tokenizer()
    text = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=27,  # the pipeline reads the layers 9, 18 and 27
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=4,
        )
    )
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=1,
        joint_attention_dim=24,
        timestep_guidance_channels=16,
        axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=False,
    )
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)
    return Flux2KleinPipeline(scheduler, autoencoder, text, tokenizer, transformer, is_distilled=distilled)


def word_tokenizer():
    words = [
        "<pad>",
        "<unk>",
        "</s>",
        *["a", "red", "green", "blue", "make", "it", "circle", "square", "the", "bigger"],
    ]
    model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        eos_token="</s>",
        chat_template=CHAT,
        model_max_length=512,
    )


def consistency(folder):
    base = sd1(folder)
    parts = {name: getattr(base, name) for name in ("vae", "text_encoder", "tokenizer")}
    unet = widened(base.unet, 4, time_cond_proj_dim=16)
    scheduler = LCMScheduler.from_config(base.scheduler.config)
    return without_checker(LatentConsistencyModelPipeline, {**parts, "unet": unet, "scheduler": scheduler})


# registered name → what makes a folder of its class
EDITORS = {
    "instruct-pix2pix": instruct_pix2pix,
    "sdxl-instruct-pix2pix": sdxl_instruct_pix2pix,
    "cosxl-edit": cosxl,
    "ultra-edit": UltraEdit,
    "controlnet": controlnet,
    "controlnet-img2img": controlnet,
    "flux2-klein": klein,
    "flux2-klein-base": lambda folder: klein(folder, distilled=False),
    "flux-kontext": kontext,
}
GENERATORS = {
    "diffusers": sd1,
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "flux-schnell": lambda folder: flux(folder, distilled=False),
    "flux2-klein": klein,
    "flux2-klein-base": lambda folder: klein(folder, distilled=False),
    "turbo": sdxl,
    "lcm": consistency,
    "lcm-lora": sd1,
    "lightning": sdxl,
    "one-step": sd1,
}


def save(make, folder: Path) -> str:
    """The folder of a tiny pipeline; equal weights at every call."""
    torch.manual_seed(0)
    make(folder / "vocabulary").save_pretrained(folder / "model")
    return str(folder / "model")

"""Families with a transformer that predicts a rectified flow: Stable Diffusion 3.x and FLUX.1.

x_σ = (1 − σ) x_0 + σ ε, target ε − x_0 (Liu et al. 2022, arXiv:2209.03003; Esser et al. 2024,
arXiv:2403.03206). The noise levels are those of the model's own scheduler, with its static shift; a shift
that depends on the picture's size belongs to sampling and is left out, as in diffusers' training scripts,
unless `train.timestep_shift` asks for it.
"""

import math
from functools import cached_property
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel, SD3Transformer2DModel
from torch import Tensor

from rpo_cli.errors import UsageError
from rpo_cli.train.families.family import (
    Condition,
    Encoders,
    Folder,
    KohyaNames,
    TextParts,
    blank,
    present,
    refuse,
    refuse_editor,
)
from rpo_cli.train.noise import NoiseSchedule

COMMON = frozenset({"transformer", "vae", "scheduler", "text_encoder", "text_encoder_2"})
PICTURE_TOKENS = ("to_q", "to_k", "to_v", "to_out.0")
TEXT_TOKENS = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
WITHOUT = ("transformer", "feature_extractor", "image_encoder")
FLUX_SIDE = 128  # of the latents; FLUX takes any size, this is its pipeline's default
FLUX_GUIDANCE = 3.5  # embedded in guidance-distilled models; the pipeline's default
FLUX_PATCH = 2
SD3_T5_TOKENS = 256  # each the default of its pipeline
FLUX_DEV_T5_TOKENS, FLUX_SCHNELL_T5_TOKENS = 512, 256


class StableDiffusion3:
    """Stable Diffusion 3 and 3.5: a two-stream transformer, two CLIP text encoders and perhaps a T5."""

    pipeline = "StableDiffusion3Pipeline"
    denoiser = "SD3Transformer2DModel"
    component = "transformer"
    lora_targets = PICTURE_TOKENS + TEXT_TOKENS
    prompt_parts = ("hidden", "pooled")
    kohya: KohyaNames | None = None
    sized = False
    texts: TextParts | None = None

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._folder = Folder(model, revision)

    @staticmethod
    def serves(index: dict[str, Any]) -> bool:
        return index.get("_class_name") == "StableDiffusion3Pipeline" and present(index) >= COMMON

    def check(self) -> None:
        index = self._folder.index()
        if not self.serves(index):
            raise refuse(self._folder, index, "Stable Diffusion 3 and 3.5")

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return _schedule(self._folder)

    def latent_size(self) -> tuple[tuple[int, int, int], int]:
        side = int(self._folder.config("transformer", SD3Transformer2DModel)["sample_size"])
        vae = self._folder.vae_config()
        return (vae["latent_channels"], side, side), side * _vae_factor(vae)

    def grain(self) -> int:
        patch = self._folder.config("transformer", SD3Transformer2DModel)["patch_size"]
        return int(patch * _vae_factor(self._folder.vae_config()))

    def size_shift(self, side: int) -> float | None:
        return _size_shift(self._folder, (side // self.grain()) ** 2)

    def load_denoiser(self, dtype: torch.dtype = torch.float32) -> Any:
        return self._folder.denoiser("transformer", SD3Transformer2DModel, dtype)

    def load_encoders(self, device: str) -> Encoders:
        width = self._folder.config("transformer", SD3Transformer2DModel)["joint_attention_dim"]
        limits = {"tokenizer": 0, "tokenizer_2": 0, "tokenizer_3": SD3_T5_TOKENS}
        index = self._folder.index()
        absent = {"text_encoder_3", "tokenizer_3"} - present(index)
        return self._folder.encoders(
            self.pipeline,
            device,
            self.latent_size()[1],
            lambda pipe, prompts: _embed_sd3(pipe, prompts, width),
            token_limits={name: limit for name, limit in limits.items() if name not in absent},
            without=(*WITHOUT, *sorted(absent)),
        )

    def blank_condition(self, count: int) -> Condition:
        config = self._folder.config("transformer", SD3Transformer2DModel)
        clip = self._folder.config("text_encoder", SD3Transformer2DModel)["max_position_embeddings"]
        hidden = (int(clip) + SD3_T5_TOKENS, config["joint_attention_dim"])  # CLIP's tokens, then T5's
        return blank(count, hidden=hidden, pooled=(config["pooled_projection_dim"],))

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        output: Tensor = denoiser(
            hidden_states=noisy,
            timestep=times,
            encoder_hidden_states=condition["hidden"],
            pooled_projections=condition["pooled"],
            return_dict=False,
        )[0]
        return output


class Flux:
    """FLUX.1: a transformer over 2 x 2 patches of the latents; CLIP pools the text, T5 gives its tokens."""

    pipeline = "FluxPipeline"
    denoiser = "FluxTransformer2DModel"
    component = "transformer"
    lora_targets = PICTURE_TOKENS + TEXT_TOKENS
    prompt_parts = ("hidden", "pooled")
    kohya: KohyaNames | None = None
    sized = False
    texts: TextParts | None = None

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._folder = Folder(model, revision)

    @staticmethod
    def serves(index: dict[str, Any]) -> bool:
        return index.get("_class_name") == "FluxPipeline" and present(index) >= COMMON

    def check(self) -> None:
        index = self._folder.index()
        if not self.serves(index):
            raise refuse(self._folder, index, "FLUX.1 text-to-image models")
        config = self._folder.config("transformer", FluxTransformer2DModel)
        channels = config["in_channels"] // FLUX_PATCH**2
        if channels != self._folder.vae_config()["latent_channels"]:
            raise refuse_editor(self._folder, channels)

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return _schedule(self._folder)

    def latent_size(self) -> tuple[tuple[int, int, int], int]:
        vae = self._folder.vae_config()
        return (vae["latent_channels"], FLUX_SIDE, FLUX_SIDE), FLUX_SIDE * _vae_factor(vae)

    def grain(self) -> int:
        return FLUX_PATCH * _vae_factor(self._folder.vae_config())

    def size_shift(self, side: int) -> float | None:
        return _size_shift(self._folder, (side // self.grain()) ** 2)

    def load_denoiser(self, dtype: torch.dtype = torch.float32) -> Any:
        return self._folder.denoiser("transformer", FluxTransformer2DModel, dtype)

    def load_encoders(self, device: str) -> Encoders:
        distilled = self._folder.config("transformer", FluxTransformer2DModel).get("guidance_embeds")
        tokens = FLUX_DEV_T5_TOKENS if distilled else FLUX_SCHNELL_T5_TOKENS
        return self._folder.encoders(
            self.pipeline,
            device,
            self.latent_size()[1],
            lambda pipe, prompts: _embed_flux(pipe, prompts, tokens),
            token_limits={"tokenizer_2": tokens},
            without=WITHOUT,
        )

    def blank_condition(self, count: int) -> Condition:
        config = self._folder.config("transformer", FluxTransformer2DModel)
        tokens = FLUX_DEV_T5_TOKENS if config.get("guidance_embeds") else FLUX_SCHNELL_T5_TOKENS
        hidden = (tokens, config["joint_attention_dim"])
        return blank(count, hidden=hidden, pooled=(config["pooled_projection_dim"],))

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        hidden, (height, width) = condition["hidden"], noisy.shape[-2:]
        guidance = None
        if denoiser.config.guidance_embeds:
            guidance = torch.full((len(noisy),), FLUX_GUIDANCE, device=noisy.device)
        output = denoiser(
            hidden_states=pack(noisy),
            timestep=times / 1000,  # the transformer multiplies by 1000 itself
            guidance=guidance,
            pooled_projections=condition["pooled"],
            encoder_hidden_states=hidden,
            txt_ids=hidden.new_zeros(hidden.shape[1], 3),
            img_ids=picture_ids(height, width).to(hidden),
            return_dict=False,
        )[0]
        return unpack(output, height, width)


def pack(latents: Tensor) -> Tensor:
    """(N, C, h, w) → (N, h/2 · w/2, 4C): one token for each 2 x 2 patch, the channel varying slowest."""
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(batch, (height // 2) * (width // 2), channels * 4)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`."""
    batch, _, channels = tokens.shape
    patches = tokens.reshape(batch, height // 2, width // 2, channels // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(batch, channels // 4, height, width)


def picture_ids(height: int, width: int) -> Tensor:
    """(h/2 · w/2, 3): 0, row and column of each patch, what the rotary embedding turns by."""
    rows, columns = torch.meshgrid(torch.arange(height // 2), torch.arange(width // 2), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], dim=-1).reshape(-1, 3).float()


def _embed_sd3(pipe: Any, prompts: list[str], width: int) -> Condition:
    """Without a T5 the pipeline puts zeros where its tokens would be; it asks the transformer how wide."""
    if pipe.text_encoder_3 is not None:
        hidden, _, pooled, _ = pipe.encode_prompt(
            prompts, None, None, device=pipe.device, do_classifier_free_guidance=False
        )
        return {"hidden": hidden, "pooled": pooled}
    parts = [pipe._get_clip_prompt_embeds(prompts, 1, pipe.device, clip_model_index=i) for i in range(2)]
    clip = torch.cat([hidden for hidden, _ in parts], dim=-1)
    clip = torch.nn.functional.pad(clip, (0, width - clip.shape[-1], 0, SD3_T5_TOKENS))
    return {"hidden": clip, "pooled": torch.cat([pooled for _, pooled in parts], dim=-1)}


def _embed_flux(pipe: Any, prompts: list[str], tokens: int) -> Condition:
    hidden, pooled, _ = pipe.encode_prompt(prompts, None, device=pipe.device, max_sequence_length=tokens)
    return {"hidden": hidden, "pooled": pooled}


def _schedule(folder: Folder) -> NoiseSchedule:
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(_flow_config(folder))
    return NoiseSchedule.from_sigmas(scheduler.sigmas, scheduler.timesteps)


def _flow_config(folder: Folder) -> dict[str, Any]:
    config = folder.config("scheduler", FlowMatchEulerDiscreteScheduler)
    if "FlowMatch" not in config.get("_class_name", ""):
        raise UsageError(
            f"{folder.model}: its scheduler ({config.get('_class_name')}) is no flow-matching one",
            "give the model's folder as it was published",
        )
    return config


def _size_shift(folder: Folder, tokens: int) -> float | None:
    """e^μ, μ linear in the number of picture tokens; the schedulers' `time_shift_type` may be linear in μ.

    Source: diffusers, pipelines/flux/pipeline_flux.py, `calculate_shift`; Esser et al. 2024, section 5.3.2.
    """
    config = dict(FlowMatchEulerDiscreteScheduler.from_config(_flow_config(folder)).config)
    if not config["use_dynamic_shifting"]:
        return None
    fewest, most = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (most - fewest)
    mu = float(config["base_shift"] + slope * (tokens - fewest))
    return mu if config["time_shift_type"] == "linear" else math.exp(mu)


def _vae_factor(vae: dict[str, Any]) -> int:
    return int(2 ** (len(vae["block_out_channels"]) - 1))

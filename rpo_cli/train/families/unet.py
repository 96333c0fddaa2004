"""Families with a UNet: Stable Diffusion 1.x, 2.x and XL."""

from functools import cached_property
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
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

COMPONENTS = frozenset({"unet", "vae", "text_encoder", "tokenizer", "scheduler"})
SECOND = frozenset({"text_encoder_2", "tokenizer_2"})
# every attention projection, as the public diffusion LoRA scripts have it
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
WITHOUT = ("unet", "feature_extractor", "image_encoder")
TIME_IDS = 6  # numbers that SDXL is told of a picture


def _embed_clip(pipe: Any, prompts: list[str]) -> Condition:
    hidden, _ = pipe.encode_prompt(prompts, pipe.device, 1, False)
    return {"hidden": hidden}


def _embed_clips(pipe: Any, prompts: list[str]) -> Condition:
    """The empty prompt is the one that guidance starts from, and in the base model that is all zeros."""
    hidden, _, pooled, _ = pipe.encode_prompt(
        prompts, device=pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False
    )
    if pipe.config.force_zeros_for_empty_prompt:
        empty = torch.tensor([not prompt for prompt in prompts], device=hidden.device)
        hidden = hidden.masked_fill(empty.view(-1, 1, 1), 0.0)
        pooled = pooled.masked_fill(empty.view(-1, 1), 0.0)
    return {"hidden": hidden, "pooled": pooled}


class StableDiffusion1:
    """Stable Diffusion 1.x and 2.x: a UNet on VAE latents with one CLIP text encoder."""

    pipeline = "StableDiffusionPipeline"
    denoiser = "UNet2DConditionModel"
    component = "unet"
    lora_targets = ATTENTION
    prompt_parts = ("hidden",)
    kohya: KohyaNames | None = "diffusers"
    sized = False
    texts: TextParts | None = TextParts(("text_encoder",), _embed_clip)

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._folder = Folder(model, revision)

    @staticmethod
    def serves(index: dict[str, Any]) -> bool:
        return present(index) >= COMPONENTS and "text_encoder_2" not in present(index)

    def check(self) -> None:
        index = self._folder.index()
        if not self.serves(index):
            raise refuse(self._folder, index, "one UNet, one VAE and one text encoder")
        _refuse_editors(self._folder)

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return _schedule(self._folder)

    def latent_size(self) -> tuple[tuple[int, int, int], int]:
        return _latent_size(self._folder)

    def grain(self) -> int:
        return _grain(self._folder)

    def size_shift(self, side: int) -> float | None:
        return None

    def load_denoiser(self, dtype: torch.dtype = torch.float32) -> Any:
        return _load_unet(self._folder, dtype)

    def load_encoders(self, device: str) -> Encoders:
        return self._folder.encoders(
            self.pipeline,
            device,
            self.latent_size()[1],
            _embed_clip,
            token_limits={"tokenizer": 0},
            without=(*WITHOUT, "safety_checker"),
        )

    def blank_condition(self, count: int) -> Condition:
        return blank(count, hidden=_hidden(self._folder))

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        output: Tensor = denoiser(
            noisy, times, encoder_hidden_states=condition["hidden"], return_dict=False
        )[0]
        return output


class StableDiffusionXL:
    """Stable Diffusion XL base models: two text encoders, a pooled one, and the picture's size."""

    pipeline = "StableDiffusionXLPipeline"
    denoiser = "UNet2DConditionModel"
    component = "unet"
    lora_targets = ATTENTION
    prompt_parts = ("hidden", "pooled")
    kohya: KohyaNames | None = "original"
    sized = True
    texts: TextParts | None = TextParts(("text_encoder", "text_encoder_2"), _embed_clips)

    def __init__(self, model: str, revision: str | None = None) -> None:
        self._folder = Folder(model, revision)

    @staticmethod
    def serves(index: dict[str, Any]) -> bool:
        named = str(index.get("_class_name", "")).startswith("StableDiffusionXL")
        return named and present(index) >= COMPONENTS | SECOND

    def check(self) -> None:
        index = self._folder.index()
        if not self.serves(index):
            raise refuse(self._folder, index, "one UNet, one VAE and two text encoders")
        _refuse_editors(self._folder)

    @cached_property
    def schedule(self) -> NoiseSchedule:
        return _schedule(self._folder)

    def latent_size(self) -> tuple[tuple[int, int, int], int]:
        return _latent_size(self._folder)

    def grain(self) -> int:
        return _grain(self._folder)

    def size_shift(self, side: int) -> float | None:
        return None

    def load_denoiser(self, dtype: torch.dtype = torch.float32) -> Any:
        return _load_unet(self._folder, dtype)

    def load_encoders(self, device: str) -> Encoders:
        return self._folder.encoders(
            self.pipeline,
            device,
            self.latent_size()[1],
            _embed_clips,
            token_limits={"tokenizer": 0, "tokenizer_2": 0},
            without=WITHOUT,
        )

    def blank_condition(self, count: int) -> Condition:
        pooled = self._folder.config("text_encoder_2", UNet2DConditionModel)["projection_dim"]
        return blank(count, hidden=_hidden(self._folder), pooled=(pooled,), time_ids=(TIME_IDS,))

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        output: Tensor = denoiser(
            noisy,
            times,
            encoder_hidden_states=condition["hidden"],
            added_cond_kwargs={"text_embeds": condition["pooled"], "time_ids": condition["time_ids"]},
            return_dict=False,
        )[0]
        return output


def _hidden(folder: Folder) -> tuple[int, int]:
    """Tokens of a caption, and their width."""
    text = folder.config("text_encoder", UNet2DConditionModel)  # any class reads a configuration
    width = folder.config("unet", UNet2DConditionModel)["cross_attention_dim"]
    return int(text["max_position_embeddings"]), int(width)


def _schedule(folder: Folder) -> NoiseSchedule:
    config = folder.config("scheduler", DDPMScheduler)
    kind = config.get("prediction_type", "epsilon")
    if "FlowMatch" in config.get("_class_name", "") or kind not in ("epsilon", "v_prediction", "sample"):
        raise UsageError(
            f"{folder.model}: its scheduler ({config.get('_class_name')}, {kind}) has no noise levels",
            "a UNet is trained with a scheduler that predicts epsilon, v or the sample",
        )
    return NoiseSchedule.from_alphas_cumprod(DDPMScheduler.from_config(config).alphas_cumprod, kind)


def _latent_size(folder: Folder) -> tuple[tuple[int, int, int], int]:
    vae = folder.vae_config()
    side = int(folder.config("unet", UNet2DConditionModel)["sample_size"])
    return (vae["latent_channels"], side, side), side * 2 ** (len(vae["block_out_channels"]) - 1)


def _grain(folder: Folder) -> int:
    """Every level of VAE and UNet but the last halves its input."""
    unet = folder.config("unet", UNet2DConditionModel)
    vae = folder.vae_config()
    halvings = len(vae["block_out_channels"]) + len(unet["block_out_channels"]) - 2
    return int(2**halvings)


def _load_unet(folder: Folder, dtype: torch.dtype) -> Any:
    _refuse_editors(folder)
    return folder.denoiser("unet", UNet2DConditionModel, dtype)


def _refuse_editors(folder: Folder) -> None:
    """Raise for a UNet that is fed a picture beside the noise; reads its configuration only."""
    config = folder.config("unet", UNet2DConditionModel)
    channels = config.get("in_channels", 4)
    if channels != config.get("out_channels", 4):
        raise refuse_editor(folder, channels)

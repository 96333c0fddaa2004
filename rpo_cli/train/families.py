"""Model families: how to load, condition and call a denoiser. One adapter class each.

A family is cheap to construct; every `load_*` reads only what it names, safetensors only. To add one:
a class with these methods, a registry line, and the contract test runs over it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from PIL.Image import Image as Picture
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from rpo_cli.errors import UsageError
from rpo_cli.train.diffusion import NoiseSchedule

Condition = dict[str, Tensor]
COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class Encoders:
    """What turns pictures and prompts into what the denoiser sees. Lives only while the cache is built."""

    vae: Any  # AutoencoderKL; diffusers' classes carry no types
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    size: int

    @torch.no_grad()
    def encode_images(self, pictures: Sequence[Picture]) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of each picture's latents, scaled, (N, C, h, w) float32."""
        pixels = torch.stack([to_pixels(picture, self.size) for picture in pictures]).to(self.vae.device)
        posterior = self.vae.encode(pixels).latent_dist
        scale = self.vae.config.scaling_factor
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        return ((posterior.mean - shift) * scale).cpu(), (posterior.std * scale).cpu()

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """{"hidden": (N, tokens, width) float32}, as the pipeline itself encodes them."""
        batch = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        masked = getattr(self.text_encoder.config, "use_attention_mask", False)
        device = self.text_encoder.device
        mask = batch.attention_mask.to(device) if masked else None
        return {"hidden": self.text_encoder(batch.input_ids.to(device), attention_mask=mask)[0].cpu()}


class StableDiffusion1:
    """Stable Diffusion 1.x and 2.x: a UNet on VAE latents with one CLIP text encoder."""

    # every attention projection, as the public diffusion LoRA scripts have it
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")
    pipeline = "StableDiffusionPipeline"

    def __init__(self, model: str, revision: str | None = None) -> None:
        self.model = model
        self.revision = revision

    def check(self) -> None:
        """Read the model's index only.

        Raises:
            UsageError: not a diffusers model, or of a family that cannot be trained yet.
        """
        index = self._load("model_index.json", DiffusionPipeline.load_config, self.model)
        present = {name for name, value in index.items() if isinstance(value, list) and value[0]}
        if not set(COMPONENTS) <= present or "text_encoder_2" in present:
            raise UsageError(
                f"{self.model}: a {index.get('_class_name', 'pipeline')} cannot be trained yet",
                "train.model takes Stable Diffusion 1.x or 2.x: one UNet, one VAE, one text encoder",
            )

    def load_schedule(self) -> NoiseSchedule:
        config = self._load("scheduler", DDPMScheduler.load_config, self.model, subfolder="scheduler")
        kind = config.get("prediction_type", "epsilon")
        if "FlowMatch" in config.get("_class_name", "") or kind not in (
            "epsilon",
            "v_prediction",
            "sample",
        ):
            raise UsageError(
                f"{self.model}: its scheduler ({config.get('_class_name')}, {kind}) has no noise levels",
                "train.model takes models that predict epsilon, v or the sample",
            )
        return NoiseSchedule.from_alphas_cumprod(DDPMScheduler.from_config(config).alphas_cumprod, kind)

    def load_unet(self, dtype: torch.dtype = torch.float32) -> Any:
        """In evaluation mode: no dropout, so both sides and the reference see one function."""
        how = {**_SAFE, "dtype": dtype}
        unet = self._load("unet", UNet2DConditionModel.from_pretrained, self.model, subfolder="unet", **how)
        if unet.config.in_channels != unet.config.out_channels:
            raise UsageError(
                f"{self.model}: its UNet takes {unet.config.in_channels} channels, as an editor's does",
                "train the text-to-image model",
            )
        return unet.eval()

    def load_encoders(self, device: str) -> Encoders:
        """VAE and text encoder in float32: half precision overflows in some VAEs."""
        vae = self._load("vae", AutoencoderKL.from_pretrained, self.model, subfolder="vae", **_SAFE)
        text = self._load(
            "text_encoder", CLIPTextModel.from_pretrained, self.model, subfolder="text_encoder", **_SAFE
        )
        tokenizer = self._load(
            "tokenizer", CLIPTokenizer.from_pretrained, self.model, subfolder="tokenizer"
        )
        return Encoders(vae.eval().to(device), text.eval().to(device), tokenizer, self.latent_size()[1])

    def latent_size(self) -> tuple[tuple[int, int, int], int]:
        """((C, h, w) of the latents, side of the pictures in pixels), from the configs alone."""
        unet = self._load("unet", UNet2DConditionModel.load_config, self.model, subfolder="unet")
        vae = self._load("vae", AutoencoderKL.load_config, self.model, subfolder="vae")
        side = int(unet["sample_size"])
        return (vae["latent_channels"], side, side), side * 2 ** (len(vae["block_out_channels"]) - 1)

    def predict(self, unet: nn.Module, noisy: Tensor, timesteps: Tensor, condition: Condition) -> Tensor:
        """The model's own target for noised latents, (N, C, h, w)."""
        output: Tensor = unet(
            noisy, timesteps, encoder_hidden_states=condition["hidden"], return_dict=False
        )[0]
        return output

    def _load(self, what: str, loader: Any, *args: Any, **kwargs: Any) -> Any:
        diffusers_logging.disable_progress_bar()  # progress is the observer's to show
        transformers_logging.disable_progress_bar()
        try:
            return loader(*args, revision=self.revision, **kwargs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            text = str(error).strip()
            reason = text.splitlines()[0] if text else type(error).__name__
            raise UsageError(
                f"{self.model}: {what} cannot be loaded: {reason}",
                "give a diffusers folder or hub id with safetensors weights (pickle files are refused)",
            ) from error


_SAFE = {"use_safetensors": True, "dtype": torch.float32}


def to_pixels(picture: Picture, size: int) -> Tensor:
    """(3, size, size) in [-1, 1]: the shorter side resized (bilinear), the centre cropped."""
    if picture.size != (size, size):
        scale = size / min(picture.size)
        width, height = (max(size, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    array = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1).contiguous()

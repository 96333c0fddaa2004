"""Text to image in one evaluation of a distilled UNet."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import DDPMScheduler
from diffusers.utils.torch_utils import randn_tensor
from PIL.Image import Image as Picture

from rpo_cli.backends.lora import load_adapter
from rpo_cli.backends.pipelines import finished, generators, load_pipeline
from rpo_cli.backends.reading import tokens_over
from rpo_cli.errors import UsageError


class OneStepGenerator:
    """x_0 as a UNet predicts it from sigma_t z at one timestep t, without guidance.

    Score identity distillation with long and short guidance (SiD-LSG) trains such UNets at t = 625: its
    sampler adds noise z at t to a zero picture, asks the UNet once and takes its x_0. A few-step sampler
    would start at another noise level and scale.

    Source: Zhou et al. 2025, arXiv:2406.01561; https://github.com/mingyuanzhou/SiD-LSG (sid_sd_sampler)
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        steps: int = 1,
        guidance: float | None = None,
        negative_prompt: str | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        lora: str | None = None,
        lora_revision: str | None = None,
        denoiser: str | None = None,
        timestep: int = 625,
    ) -> None:
        """
        Raises:
            UsageError: more than one step, or a guidance or scheduler: there is nothing to do with them.
        """
        given = {"guidance": guidance, "negative prompt": negative_prompt, "scheduler": scheduler}
        named = [name for name, value in given.items() if value is not None]
        if steps != 1 or named:
            what = named[0] if named else f"{steps} steps"
            raise UsageError(
                f"one-step: takes one step alone, no {what}", "leave it out, or choose another"
            )
        self._load: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "device": device,
            "dtype": dtype,
            "scheduler": None,
            "denoiser": denoiser,
        }
        self._size = width, height
        self._lora, self._lora_revision, self._timestep = lora, lora_revision, timestep
        self._pipe: Any = None
        self.notes: list[str] = []

    def setup(self) -> None:
        self._pipe = load_pipeline(**self._load)
        # DDPM's last step returns the predicted x_0; the model's own scheduler may not take a timestep
        self._pipe.scheduler = DDPMScheduler.from_config(self._pipe.scheduler.config, clip_sample=False)
        if self._lora is not None:
            model = self._load["model"]
            self.notes = load_adapter(self._pipe, self._lora, model, self._lora_revision)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One RGB picture per prompt; None where the pipeline's safety checker blacked it out."""
        pipe, rows = self._pipe, generators(list(seeds))
        side = pipe.unet.config.sample_size
        width, height = (given // pipe.vae_scale_factor if given else side for given in self._size)
        noise = randn_tensor((len(rows), pipe.unet.config.in_channels, height, width), generator=rows)
        sigma = (1 - pipe.scheduler.alphas_cumprod[self._timestep]) ** 0.5
        out = pipe(
            prompt=list(prompts),
            latents=(noise * sigma).to(pipe.unet.dtype),
            timesteps=[self._timestep],
            guidance_scale=1.0,
            generator=rows,  # of the step's own noise, which has next to no variance
            width=width * pipe.vae_scale_factor,
            height=height * pipe.vae_scale_factor,
        )
        return finished(out)

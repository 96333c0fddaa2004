"""Text to image with any diffusers text-to-image folder or hub id."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image as Picture

from rpo_cli.backends.lora import load_adapter
from rpo_cli.backends.pipelines import finished, generators, load_pipeline
from rpo_cli.backends.reading import tokens_over


class DiffusersGenerator:
    """`DiffusionPipeline.from_pretrained`, one seeded generator per row (see `protocols.Generator`)."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        steps: int = 50,
        guidance: float | None = 7.5,
        negative_prompt: str | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        scheduler_config: Mapping[str, Any] | None = None,
        lora: str | None = None,
        lora_revision: str | None = None,
        denoiser: str | None = None,
        call: Mapping[str, Any] | None = None,
    ) -> None:
        """`call`: what else the pipeline is called with, e.g. the guidance of a model that takes none."""
        self._load: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "device": device,
            "dtype": dtype,
            "scheduler": scheduler,
            "scheduler_config": scheduler_config,
            "denoiser": denoiser,
        }
        self._call: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "width": width,
            "height": height,
        }
        self._call |= call or {}
        self._negative_prompt = negative_prompt
        self._lora, self._lora_revision = lora, lora_revision
        self._pipe: Any = None
        self.notes: list[str] = []

    def setup(self) -> None:
        self._pipe = load_pipeline(**self._load)
        if self._lora is not None:
            model = self._load["model"]
            self.notes = load_adapter(self._pipe, self._lora, model, self._lora_revision)

    @property
    def pipe(self) -> Any:
        """The loaded pipeline; None before `setup`."""
        return self._pipe

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One RGB picture per prompt; None where the pipeline's safety checker blacked it out."""
        call = {key: value for key, value in self._call.items() if value is not None}
        if self._negative_prompt is not None:
            call["negative_prompt"] = [self._negative_prompt] * len(prompts)
        return finished(self._pipe(prompt=list(prompts), generator=generators(list(seeds)), **call))

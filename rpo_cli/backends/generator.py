"""Text to image with any diffusers text-to-image folder or hub id."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image as Picture

from rpo_cli.backends.pipelines import generators, load_pipeline
from rpo_cli.errors import RpoError


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
        guidance: float = 7.5,
        negative_prompt: str | None = None,
        width: int | None = None,
        height: int | None = None,
        scheduler: str | None = None,
        lora: str | None = None,
        denoiser: str | None = None,
    ) -> None:
        self._load: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "device": device,
            "dtype": dtype,
            "scheduler": scheduler,
            "denoiser": denoiser,
        }
        self._call: dict[str, Any] = {
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "width": width,
            "height": height,
        }
        self._negative_prompt = negative_prompt
        self._lora = lora
        self._pipe: Any = None

    def setup(self) -> None:
        self._pipe = load_pipeline(**self._load)
        if self._lora is not None:
            self._load_adapter(self._lora)

    @property
    def pipe(self) -> Any:
        """The loaded pipeline; None before `setup`."""
        return self._pipe

    def _load_adapter(self, folder: str) -> None:
        try:
            self._pipe.load_lora_weights(folder, use_safetensors=True)
        except (OSError, ValueError, KeyError) as error:
            raise RpoError(
                f"{folder}: cannot be loaded as a LoRA of {self._load['model']}: {error}",
                "give a folder that `rpo train` or diffusers wrote for this model",
            ) from error

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        """One RGB picture per prompt; None where the pipeline's safety checker blacked it out."""
        call = {key: value for key, value in self._call.items() if value is not None}
        if self._negative_prompt is not None:
            call["negative_prompt"] = [self._negative_prompt] * len(prompts)
        out = self._pipe(prompt=list(prompts), generator=generators(list(seeds)), **call)
        flags = getattr(out, "nsfw_content_detected", None) or [False] * len(prompts)
        return [
            None if flagged else image.convert("RGB")
            for image, flagged in zip(out.images, flags, strict=True)
        ]

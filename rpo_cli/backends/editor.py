"""Editing by instruction with InstructPix2Pix (Brooks et al. 2022, arXiv:2211.09800)."""

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image as Picture

from rpo_cli.backends.pipelines import generators, load_pipeline
from rpo_cli.protocols import EditRequest


class InstructPix2PixEditor:
    """`StableDiffusionInstructPix2PixPipeline`: pictures are given at their own size."""

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
        steps: int = 50,
        scheduler: str | None = None,
    ) -> None:
        self._load: dict[str, Any] = {
            "model": model,
            "revision": revision,
            "device": device,
            "dtype": dtype,
            "scheduler": scheduler,
        }
        self._steps = steps
        self._pipe: Any = None

    def setup(self) -> None:
        self._pipe = load_pipeline(**self._load)

    @torch.no_grad()
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float, image_guidance: float
    ) -> list[Picture | None]:
        """One picture per request (all of one size); None where a safety checker blacked it out."""
        out = self._pipe(
            prompt=[request.instruction for request in requests],
            image=[request.image for request in requests],
            num_inference_steps=self._steps,
            guidance_scale=guidance,
            image_guidance_scale=image_guidance,
            generator=generators([request.seed for request in requests]),
        )
        flags = getattr(out, "nsfw_content_detected", None) or [False] * len(requests)
        return [
            None if flagged else image.convert("RGB")
            for image, flagged in zip(out.images, flags, strict=True)
        ]

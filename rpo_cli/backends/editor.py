"""Editing by instruction with InstructPix2Pix (Brooks et al. 2022, arXiv:2211.09800)."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import EDMEulerScheduler
from PIL.Image import Image as Picture

from rpo_cli.backends.loading import finished, generators, load_pipeline, resized, tokens_over
from rpo_cli.protocols import EditRequest, Weights
from rpo_cli.recipes.kinds import EDM


class InstructPix2PixEditor:
    """InstructPix2Pix on Stable Diffusion 1.x: guided by the instruction and by the picture.

    Source: Brooks et al. 2022, arXiv:2211.09800
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 50,
        scheduler: str | None = None,
    ) -> None:
        self._weights, self._scheduler = weights, scheduler
        self._steps = steps
        self._pipe: Any = None

    def setup(self) -> None:
        self._pipe = load_pipeline(self._weights, self._scheduler)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> list[Picture | None]:
        """One picture per request (all of one size); None where a safety checker blacked it out."""
        return _edited(self._pipe, requests, self._steps, guidance, image_guidance)


class XlInstructPix2PixEditor:
    """InstructPix2Pix on Stable Diffusion XL; with `cosxl`, CosXL Edit, which is no flag of its files.

    Source: Brooks et al. 2022, arXiv:2211.09800
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 30,
        scheduler: str | None = None,
        cosxl: bool = False,
    ) -> None:
        self._weights, self._scheduler = weights, scheduler
        self._steps = steps
        self._cosxl = cosxl
        self._pipe: Any = None

    def setup(self) -> None:
        self._pipe = load_pipeline(self._weights, self._scheduler)
        if self._cosxl:
            self._pipe.is_cosxl_edit = True
            if self._scheduler is None and not isinstance(self._pipe.scheduler, EDMEulerScheduler):
                self._pipe.scheduler = EDMEulerScheduler(**EDM)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> list[Picture | None]:
        """One picture per request (all of one size)."""
        width, height = working_size(requests[0].image.size, self._pipe.vae_scale_factor)
        size = {"width": width, "height": height}
        return _edited(self._pipe, requests, self._steps, guidance, image_guidance, **size)


def _edited(
    pipe: Any,
    requests: Sequence[EditRequest],
    steps: int,
    guidance: float | None,
    image_guidance: float | None,
    **size: int,
) -> list[Picture | None]:
    original = requests[0].image.size
    working = working_size(original, pipe.vae_scale_factor)
    out = pipe(
        prompt=[request.instruction for request in requests],
        image=[resized(request.image, working) for request in requests],
        num_inference_steps=steps,
        guidance_scale=guidance,
        image_guidance_scale=image_guidance,
        generator=generators([request.seed for request in requests]),
        **size,
    )
    return finished(out, original)


def working_size(size: tuple[int, int], multiple: int, area: int | None = None) -> tuple[int, int]:
    """The nearest width and height that a model takes, at about `area` pixels where that is given."""
    width, height = size
    scale = math.sqrt(area / (width * height)) if area else 1.0
    return (
        max(multiple, round(width * scale / multiple) * multiple),
        max(multiple, round(height * scale / multiple) * multiple),
    )

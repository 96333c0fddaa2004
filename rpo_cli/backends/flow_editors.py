"""Editors that read the picture as tokens beside the noise: FLUX.2 [klein], Kontext, Qwen-Image-Edit.

They work at sizes of their own; an edit is brought back to its picture's size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS
from PIL.Image import Image as Picture

from rpo_cli.backends.editor import working_size
from rpo_cli.backends.loading import finished, generators, load_pipeline, resized, tokens_over
from rpo_cli.protocols import EditRequest, Weights

KLEIN_AREA = 1024 * 1024  # pixels to which its pipeline shrinks larger pictures
KLEIN_SIDE = 64  # the shortest side that it takes


class Flux2Editor:
    """FLUX.2: one picture at a time, because a list of pictures is several references of one edit.

    Source: https://github.com/black-forest-labs/flux2
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 4,
        scheduler: str | None = None,
        area: int | None = None,
    ) -> None:
        self._weights, self._scheduler = weights, scheduler
        self._steps, self._area = steps, area
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
        """One picture per request; `guidance` None for the distilled [klein]."""
        original = requests[0].image.size
        wanted = self._area or min(KLEIN_AREA, original[0] * original[1])
        size = working_size(original, self._pipe.vae_scale_factor * 2, wanted)
        if min(size) < KLEIN_SIDE:
            scale = KLEIN_SIDE / min(original)
            size = working_size(original, KLEIN_SIDE, round(original[0] * original[1] * scale**2))
        return [picture for request in requests for picture in self._one(request, size, guidance)]

    def _one(
        self, request: EditRequest, size: tuple[int, int], guidance: float | None
    ) -> list[Picture | None]:
        out = self._pipe(
            prompt=request.instruction,
            image=[resized(request.image, size)],
            width=size[0],
            height=size[1],
            num_inference_steps=self._steps,
            guidance_scale=1.0 if guidance is None else guidance,
            generator=generators([request.seed]),
        )
        return finished(out, request.image.size)


class FluxKontextEditor:
    """FLUX.1 Kontext: at the nearest of the shapes that it was trained on, or at `area` pixels.

    Source: Black Forest Labs 2025, arXiv:2506.15742
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 28,
        scheduler: str | None = None,
        area: int | None = None,
    ) -> None:
        self._weights, self._scheduler = weights, scheduler
        self._steps, self._area = steps, area
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
        """One picture per request (all of one size)."""
        original = requests[0].image.size
        width, height = self._size(original)
        out = self._pipe(
            prompt=[request.instruction for request in requests],
            image=[resized(request.image, (width, height)) for request in requests],
            width=width,
            height=height,
            max_area=width * height,
            _auto_resize=False,  # `_size` has chosen
            num_inference_steps=self._steps,
            guidance_scale=guidance,
            generator=generators([request.seed for request in requests]),
        )
        return finished(out, original)

    def _size(self, original: tuple[int, int]) -> tuple[int, int]:
        if self._area is not None:
            return working_size(original, self._pipe.vae_scale_factor * 2, self._area)
        aspect = original[0] / original[1]
        _, width, height = min((abs(aspect - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
        return width, height


class QwenImageEditor:
    """Qwen-Image-Edit and its successors: one picture at a time, at about a megapixel.

    `guidance` is the pipeline's `true_cfg_scale`, which takes a negative prompt: a blank, as its makers
    give it. The successors know more pictures; they are given one.

    Source: Wu et al. 2025, arXiv:2508.02324
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
        """One picture per request."""
        return [picture for request in requests for picture in self._one(request, guidance)]

    def _one(self, request: EditRequest, guidance: float | None) -> list[Picture | None]:
        out = self._pipe(
            prompt=request.instruction,
            image=request.image,
            negative_prompt=" ",
            true_cfg_scale=guidance,
            num_inference_steps=self._steps,
            generator=generators([request.seed]),
        )
        return finished(out, request.image.size)

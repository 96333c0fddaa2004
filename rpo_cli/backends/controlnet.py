"""Editing with Stable Diffusion 1.x and a ControlNet that sees the picture: the paper's family."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ControlNetModel
from PIL.Image import Image as Picture

from rpo_cli.backends.editor import working_size
from rpo_cli.backends.loading import (
    DTYPES,
    finished,
    generators,
    load_pipeline,
    resized,
    tokens_over,
)
from rpo_cli.errors import Case, translated
from rpo_cli.model_files import part_loaded
from rpo_cli.protocols import EditRequest, Weights

PIPELINE, IMG2IMG = "StableDiffusionControlNetPipeline", "StableDiffusionControlNetImg2ImgPipeline"


class ControlNetEditor:
    """The instruction as the prompt, the picture as the ControlNet's input; drawn from noise.

    A ControlNet trained on edits (control_v11e_sd15_ip2p) takes the picture as it is; one of depth or
    edges takes it for such a map, as the RPO authors' early code did with depth.

    Source: Zhang et al. 2023, arXiv:2302.05543; https://github.com/lllyasviel/ControlNet-v1-1-nightly
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 50,
        scheduler: str | None = None,
        controlnet: str | None = None,
        controlnet_revision: str | None = None,
        control_scale: float = 1.0,
    ) -> None:
        self._weights, self._scheduler = weights, scheduler
        self._controlnet, self._controlnet_revision = controlnet, controlnet_revision
        self._call = {"num_inference_steps": steps, "controlnet_conditioning_scale": control_scale}
        self._pipe: Any = None

    def setup(self) -> None:
        parts = _parts(self._controlnet, self._controlnet_revision, self._weights.dtype)
        self._pipe = load_pipeline(self._weights, self._scheduler, kind=PIPELINE, parts=parts)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> list[Picture | None]:
        """One picture per request (all of one size); None where a safety checker blacked it out."""
        original = requests[0].image.size
        width, height = working_size(original, self._pipe.vae_scale_factor)
        out = self._pipe(
            prompt=[request.instruction for request in requests],
            image=[resized(request.image, (width, height)) for request in requests],
            width=width,
            height=height,
            guidance_scale=guidance,
            generator=generators([request.seed for request in requests]),
            **self._call,
        )
        return finished(out, original)


class ControlNetImg2ImgEditor:
    """As `ControlNetEditor`, but drawn from the picture itself with `strength` of the noise added.

    Source: Zhang et al. 2023, arXiv:2302.05543; https://github.com/haoxian-chen/Preference-Tuning-rich-feedback
    """

    def __init__(
        self,
        weights: Weights,
        *,
        steps: int = 50,
        scheduler: str | None = None,
        controlnet: str | None = None,
        controlnet_revision: str | None = None,
        control_scale: float = 0.8,
        strength: float = 0.8,
    ) -> None:
        self._weights, self._scheduler = weights, scheduler
        self._controlnet, self._controlnet_revision = controlnet, controlnet_revision
        self._call = {
            "num_inference_steps": steps,
            "controlnet_conditioning_scale": control_scale,
            "strength": strength,
        }
        self._pipe: Any = None

    def setup(self) -> None:
        parts = _parts(self._controlnet, self._controlnet_revision, self._weights.dtype)
        self._pipe = load_pipeline(self._weights, self._scheduler, kind=IMG2IMG, parts=parts)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> list[Picture | None]:
        """One picture per request (all of one size); None where a safety checker blacked it out."""
        original = requests[0].image.size
        working = working_size(original, self._pipe.vae_scale_factor)
        pictures = [resized(request.image, working) for request in requests]
        out = self._pipe(
            prompt=[request.instruction for request in requests],
            image=pictures,
            control_image=pictures,
            width=working[0],
            height=working[1],
            guidance_scale=guidance,
            generator=generators([request.seed for request in requests]),
            **self._call,
        )
        return finished(out, original)


_UNLOADED = Case(
    [OSError, ValueError, KeyError, TypeError, RuntimeError],
    "{where}: cannot be loaded as a ControlNet: {why}",
    "the folder must hold config.json of a ControlNetModel and safetensors weights",
)


def _parts(controlnet: str | None, revision: str | None, dtype: str) -> dict[str, Any]:
    """The ControlNet, where the pipeline's folder does not hold it.

    Raises:
        RpoError: it does not load.
    """
    if controlnet is None:
        return {}
    how: dict[str, Any] = {"revision": revision, "dtype": DTYPES[dtype], "use_safetensors": True}
    with translated(_UNLOADED, where=controlnet):
        found: Any = part_loaded(
            controlnet,
            revision,
            lambda told: ControlNetModel.from_pretrained(controlnet, **told, **how),
        )
    return {"controlnet": found.eval()}

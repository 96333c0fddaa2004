"""What a recipe says, and what editors and generators share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DIFFUSERS = "diffusers 0.42.1"


@dataclass(frozen=True)
class KnownModel:
    """Weights on the hub: their licence, and the GPU memory that their makers name ("" where none do)."""

    ref: str
    license: str
    memory: str = ""


@dataclass(frozen=True)
class Recipe:
    """One call signature with the numbers that its makers recommend.

    Attributes:
        pipelines: diffusers classes of model_index.json that it serves.
        steps: denoising steps; None: the model decides (a server's).
        guidance: None: the model takes none, and one that is given is refused.
        image_guidance: of the picture that is edited; None: the model takes none.
        takes: other settings of its section that have a meaning for it.
        options: of the backend's constructor, beside what settings say.
        needs: packages beside ours that loading its processor takes.
        source: where steps and guidance are recommended.
    """

    summary: str
    pipelines: tuple[str, ...]
    steps: int | None
    guidance: float | None
    source: str
    image_guidance: float | None = None
    takes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    models: tuple[KnownModel, ...] = ()

    def accepts(self, setting: str) -> bool:
        """Whether a setting of its section has a meaning for it."""
        if setting in ("steps", "guidance", "image_guidance"):
            return getattr(self, setting) is not None
        return setting in self.takes


PIX2PIX = "StableDiffusionInstructPix2PixPipeline"
XL_PIX2PIX = "StableDiffusionXLInstructPix2PixPipeline"
SD3_PIX2PIX = "StableDiffusion3InstructPix2PixPipeline"  # of a fork: diffusers has none
CONTROLNET = "StableDiffusionControlNetPipeline"
CONTROLNET_IMG2IMG = "StableDiffusionControlNetImg2ImgPipeline"
KLEIN = "Flux2KleinPipeline"

KLEIN_9B = KnownModel("black-forest-labs/FLUX.2-klein-9B", "FLUX non-commercial")
KLEIN_4B = KnownModel("black-forest-labs/FLUX.2-klein-4B", "Apache-2.0", "8 GB (flux2 README)")
KLEIN_BASES = (
    KnownModel("black-forest-labs/FLUX.2-klein-base-4B", "Apache-2.0"),
    KnownModel("black-forest-labs/FLUX.2-klein-base-9B", "FLUX non-commercial"),
)
SD, SDXL, SD3 = "StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline"

# of CosXL Edit, as its authors' demo makes it (huggingface.co/spaces/multimodalart/cosxl)
EDM: dict[str, Any] = {
    "sigma_min": 0.002,
    "sigma_max": 120.0,
    "sigma_data": 1.0,
    "prediction_type": "v_prediction",
    "sigma_schedule": "exponential",
}

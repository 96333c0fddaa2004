"""What training asks of a model family: encode pictures and prompts, noise, predict. One class each.

The error of a prediction is the same for all: `noise.image_errors` on the family's own target, which
its `schedule` names (ε, v, the sample, or a flow's noise − latents).

To add one: a class with the methods of `Family`, a registry line, and the contract test runs over it.
Weights are read from safetensors files only.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from rpo_cli import registry
from rpo_cli.errors import UsageError
from rpo_cli.train.families.folder import Condition, Encoders, Folder, KohyaNames, TextParts
from rpo_cli.train.noise import NoiseSchedule


class Family(Protocol):
    """A family is cheap to construct; each part is read from its folder when it is first asked for.

    Attributes:
        pipeline: the diffusers pipeline class.
        denoiser: diffusers class of the denoiser.
        component: folder of the denoiser, and its prefix in LoRA files: "unet" or "transformer".
        lora_targets: ends of the names of the layers that get an adapter.
        prompt_parts: names of the tensors that a prompt becomes.
        kohya: whose module names its LoRA has in kohya's layout; None: it has no such layout.
        texts: its text encoders when they can be trained too; None: they stay as they are.
        sized: whether the condition holds the picture's size ("time_ids", see `latents.Frame`).
        schedule: noise levels and target.
    """

    pipeline: str
    denoiser: str
    component: str
    lora_targets: tuple[str, ...]
    prompt_parts: tuple[str, ...]
    kohya: KohyaNames | None
    sized: bool
    texts: TextParts | None

    def __init__(self, model: str, revision: str | None = None) -> None: ...

    @staticmethod
    def serves(index: dict[str, Any]) -> bool:
        """Whether a folder with this model_index.json is of this family."""
        ...

    def check(self) -> None:
        """Read the model's index only; UsageError when it is no model of this family."""
        ...

    @property
    def schedule(self) -> NoiseSchedule: ...

    def latent_size(self) -> tuple[tuple[int, int, int], int]:
        """((C, h, w) of the latents, side of the pictures in pixels) that the model was made for."""
        ...

    def grain(self) -> int:
        """Width and height of a picture must be multiples of this many pixels."""
        ...

    def size_shift(self, side: int) -> float | None:
        """What sampling pictures of `side` pixels shifts a flow's noise levels by, see `noise.shifted`.

        None: by the same whatever the size, which `schedule` holds, or by nothing.
        """
        ...

    def load_denoiser(self, dtype: torch.dtype = torch.float32) -> Any:
        """In evaluation mode: no dropout, so both sides and the reference see one function."""
        ...

    def load_encoders(self, device: str) -> Encoders:
        """VAE and text encoders in float32: half precision overflows in SDXL's VAE."""
        ...

    def blank_condition(self, count: int) -> Condition:
        """What `predict` takes beside the latents of `count` pictures, on the meta device: shapes only."""
        ...

    def predict(self, denoiser: Any, noisy: Tensor, times: Tensor, condition: Condition) -> Tensor:
        """The model's own target for noised latents, (N, C, h, w); `times` as `schedule.times` says."""
        ...


def open_family(model: str, revision: str | None = None) -> Family:
    """The family that serves the model's own model_index.json.

    Raises:
        UsageError: no diffusers model, or of a family that is not in the registry.
    """
    index = Folder(model, revision).index()
    names = registry.names("families")
    for name in names:
        family = registry.load("families", name)
        if family.serves(index):
            found: Family = family(model, revision)
            return found
    raise UsageError(
        f"{model}: a {index.get('_class_name', 'pipeline')} cannot be trained yet",
        f"train.model takes {', '.join(names)}; see `rpo list families`",
    )

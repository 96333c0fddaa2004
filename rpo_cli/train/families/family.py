"""What training asks of a model family: encode pictures and prompts, noise, predict. One class each,
over the parts of a diffusers model on disk or on the hub (`Folder`) and its encoders.

The error of a prediction is the same for all: `noise.image_errors` on the family's own target, which
its `schedule` names (ε, v, the sample, or a flow's noise − latents).

To add one: a class with the methods of `Family`, a registry line, and the contract test runs over it.
Weights are read from safetensors files only.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from PIL.Image import Image as Picture
from torch import Tensor
from transformers.utils import logging as transformers_logging

from rpo_cli import registry
from rpo_cli.errors import Case, UsageError, translated
from rpo_cli.model_files import is_single_file, part_loaded, pickled_hint, pipeline_loaded
from rpo_cli.recipes.training import family_of_pipeline
from rpo_cli.single_file import single_file
from rpo_cli.train.noise import NoiseSchedule

T = TypeVar("T")
_UNLOADED = Case(
    [OSError, ValueError, KeyError, TypeError],
    "{where}: {what} cannot be loaded: {why}",
    "{now}",
    UsageError,
)


@dataclass(frozen=True)
class Folder:
    """Where a model is; `revision` is a branch, tag or commit on the hub."""

    model: str
    revision: str | None

    def index(self) -> dict[str, Any]:
        """model_index.json.

        Raises:
            UsageError: it is no diffusers model.
        """
        if is_single_file(self.model):
            return single_file(self.model).index
        found: dict[str, Any] = self.loaded(
            "model_index.json", lambda: DiffusionPipeline.load_config(self.model, revision=self.revision)
        )
        return found

    @property
    def configured(self) -> str:
        """Where the configurations of its parts are."""
        return str(single_file(self.model).config) if is_single_file(self.model) else self.model

    def config(self, part: str, loader: Any) -> dict[str, Any]:
        """The configuration of one part; `loader` is its class."""
        found: dict[str, Any] = self.loaded(
            part, lambda: loader.load_config(self.configured, subfolder=part, revision=self.revision)
        )
        return found

    def part(self, name: str, loader: Any) -> Any:
        """One small part, by `loader.from_pretrained`: a tokenizer, or a model's configuration."""
        return self.loaded(
            name, lambda: loader.from_pretrained(self.configured, subfolder=name, revision=self.revision)
        )

    def vae_config(self) -> dict[str, Any]:
        return self.config("vae", AutoencoderKL)

    def denoiser(self, part: str, loader: Any, dtype: torch.dtype) -> Any:
        """The denoiser in evaluation mode."""
        if is_single_file(self.model):
            how = {"config": self.configured, "subfolder": part, "dtype": dtype, "local_files_only": True}
            how |= single_file(self.model).options
            with quiet():  # of weights that it keeps in float32, and none are
                return self.loaded(part, lambda: loader.from_single_file(self.model, **how)).eval()
        how = {"use_safetensors": True, "dtype": dtype, "revision": self.revision, "subfolder": part}

        def load(also: dict[str, Any]) -> Any:
            return loader.from_pretrained(self.model, **how, **also)

        return self.loaded(part, lambda: part_loaded(self.model, self.revision, load, part)).eval()

    def encoders(
        self,
        pipeline: str,
        device: str,
        size: int,
        embed: Callable[[Any, list[str]], "Condition"],
        *,
        token_limits: dict[str, int],
        without: tuple[str, ...],
    ) -> "Encoders":
        """The pipeline in float32 without the parts that `without` names, and so never to draw a picture.

        Args:
            token_limits: by tokenizer, the tokens that count; 0: as many as the tokenizer says.
        """
        loader = getattr(diffusers, pipeline)

        how = {"dtype": torch.float32, **dict.fromkeys(without)}

        def load(place: str, also: dict[str, Any]) -> Any:
            told = {**also, **how, "use_safetensors": True, "revision": self.revision}
            return loader.from_pretrained(place, **told)

        def whole() -> Any:
            if is_single_file(self.model):
                where = {"config": self.configured, "local_files_only": True}
                return loader.from_single_file(self.model, **where, **how)
            return pipeline_loaded(self.model, self.revision, load, torch.float32)

        with quiet():  # diffusers warns that the safety checker is off
            pipe = self.loaded("VAE and text encoders", whole)
        limits = {
            name: limit or getattr(pipe, name).model_max_length
            for name, limit in token_limits.items()
            if getattr(pipe, name, None) is not None
        }
        return Encoders(pipe.to(device), embed, limits, size)

    def loaded(self, what: str, load: Callable[[], T]) -> T:
        """`load()`, with its failure as a UsageError that names the part."""
        diffusers_logging.disable_progress_bar()  # progress is the observer's to show
        transformers_logging.disable_progress_bar()
        told = replace(_UNLOADED, facts=lambda error: {"now": self._hint()})
        with translated(told, where=self.model, what=what):
            return load()

    def _hint(self) -> str:
        whole = "give a diffusers folder or hub id, its parts whole and in safetensors files"
        return pickled_hint(self.model, self.revision) or whole


def present(index: dict[str, Any]) -> set[str]:
    """The parts that a model_index.json names and that are there."""
    return {name for name, value in index.items() if isinstance(value, list) and value[0]}


def refuse(folder: Folder, index: dict[str, Any], takes: str) -> UsageError:
    """The error for a model of another family."""
    return UsageError(
        f"{folder.model}: a {index.get('_class_name', 'pipeline')} cannot be trained yet",
        f"this family takes {takes}; see `rpo list families`",
    )


def refuse_editor(folder: Folder, channels: int) -> UsageError:
    """The error for a denoiser that is fed a picture beside the noise."""
    return UsageError(
        f"{folder.model}: its denoiser takes {channels} channels, as an editor's does",
        "train the text-to-image model",
    )


Condition = dict[str, Tensor]
KohyaNames = Literal["diffusers", "original"]


@dataclass(frozen=True)
class TextParts:
    """Text encoders that can be trained beside the denoiser.

    Attributes:
        names: of the pipeline's parts.
        embed: pipeline and prompts → condition, as of `Encoders`.
    """

    names: tuple[str, ...]
    embed: Callable[[Any, list[str]], Condition]


def blank(count: int, **shapes: tuple[int, ...]) -> Condition:
    """A condition of `count` pictures without numbers."""
    return {name: torch.zeros(count, *shape, device="meta") for name, shape in shapes.items()}


@dataclass(frozen=True)
class Encoders:
    """A pipeline without its denoiser.

    Attributes:
        pipe: its own `encode_prompt` is what makes our embeddings those of generation.
        embed: pipeline and prompts → condition, each value (N, ...).
        token_limits: by tokenizer of the pipeline, the tokens that its text encoder sees.
        size: side of a picture in pixels, when no other is asked for.
    """

    pipe: Any  # diffusers' classes carry no types
    embed: Callable[[Any, list[str]], Condition]
    token_limits: dict[str, int]
    size: int

    @property
    def vae(self) -> Any:
        return self.pipe.vae

    @property
    def text_weights(self) -> int:
        """Numbers in all text encoders."""
        parts = [part for name, part in self.pipe.components.items() if name.startswith("text_encoder")]
        return sum(weight.numel() for part in parts if part is not None for weight in part.parameters())

    @torch.no_grad()
    def encode_images(
        self, pictures: Sequence[Picture], size: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation of each picture's latents, scaled, (N, C, h, w) float32.

        Args:
            size: (width, height) that all pictures are brought to.
        """
        width, height = size or (self.size, self.size)
        pixels = torch.stack([to_pixels(picture, width, height) for picture in pictures])
        posterior = self.vae.encode(pixels.to(self.vae.device)).latent_dist
        scale = self.vae.config.scaling_factor
        shift = getattr(self.vae.config, "shift_factor", None) or 0.0
        return ((posterior.mean - shift) * scale).cpu(), (posterior.std * scale).cpu()

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> Condition:
        """{"hidden": (N, tokens, width) float32, ...}, as the pipeline itself encodes them."""
        with quiet():  # of ends that are not seen we tell once, see `too_long`
            found = self.embed(self.pipe, list(prompts))
        return {name: value.cpu() for name, value in found.items()}

    def too_long(self, prompts: Sequence[str]) -> list[str]:
        """The prompts of which every text encoder sees only the beginning."""
        found = set(prompts)
        for name, limit in self.token_limits.items():
            ids = getattr(self.pipe, name)(list(prompts), truncation=False, verbose=False).input_ids
            found &= {prompt for prompt, tokens in zip(prompts, ids, strict=True) if len(tokens) > limit}
        return sorted(found)


@contextmanager
def quiet() -> Iterator[None]:
    """Without diffusers' warnings."""
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_logging.set_verbosity(level)


def to_pixels(picture: Picture, width: int, height: int | None = None) -> Tensor:
    """(3, height, width) in [-1, 1]: resized until it covers the frame (bilinear), the centre cropped."""
    height = width if height is None else height
    if picture.size != (width, height):
        resized = covering(picture.size, (width, height))
        left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
        picture = picture.resize(resized, Image.Resampling.BILINEAR)
        picture = picture.crop((left, top, left + width, top + height))
    array = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return torch.from_numpy(array / 127.5 - 1).permute(2, 0, 1).contiguous()


def covering(size: tuple[int, int], frame: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a picture of `size` scaled until it covers `frame` and no further."""
    scale = max(frame[0] / size[0], frame[1] / size[1])
    return max(frame[0], round(size[0] * scale)), max(frame[1], round(size[1] * scale))


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
    """The family that serves the model's own model_index.json; errors as `serving`."""
    found: Family = registry.load("families", serving(model, revision))(model, revision)
    return found


def serving(model: str, revision: str | None = None) -> str:
    """The name of the family that serves the model's own model_index.json.

    Raises:
        UsageError: no diffusers model, or of a family that is not in the registry.
    """
    index = Folder(model, revision).index()
    names, likely = registry.names("families"), family_of_pipeline(str(index.get("_class_name", "")))
    ours = registry.families.keys() - {likely}  # no two of ours serve one model: the likely one first
    for name in sorted(names, key=ours.__contains__):
        if registry.load("families", name).serves(index):
            return name
    raise UsageError(
        f"{model}: a {index.get('_class_name', 'pipeline')} cannot be trained yet",
        f"train.model takes {', '.join(names)}; see `rpo list families`",
    )

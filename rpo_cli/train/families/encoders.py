"""What turns pictures and prompts into what a denoiser sees. Lives only while the cache is built."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from PIL.Image import Image as Picture
from torch import Tensor

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

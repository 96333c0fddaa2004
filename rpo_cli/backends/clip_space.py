"""A CLIP folder as a place where pictures and texts meet: unit embeddings; a prompt is encoded once."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as Picture
from torch import Tensor
from transformers import AutoTokenizer, CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rpo_cli.backends import open_clip
from rpo_cli.backends.loading import load_model
from rpo_cli.backends.pipelines import DTYPES
from rpo_cli.backends.tensors import holds, tensors

KEPT = 4096  # prompts whose embedding is kept
Frame = Callable[[Picture, int], Picture]


class _Processor:
    """The folder's picture settings, in PIL's hands, and its tokenizer."""

    def __init__(self, images: Any, tokenizer: Any) -> None:
        self.images, self.tokenizer = images, tokenizer

    @classmethod
    def from_pretrained(cls, ref: str, **safe: Any) -> "_Processor":
        pictures = CLIPImageProcessorPil.from_pretrained(ref, revision=safe["revision"])
        return cls(pictures, AutoTokenizer.from_pretrained(ref, **safe))


class _Weights:
    """CLIPModel, also from a file in OpenCLIP's names beside transformers' config.json."""

    @staticmethod
    def from_pretrained(ref: str, **how: Any) -> Any:
        if not holds(ref, how["revision"], open_clip.SIGN):
            return CLIPModel.from_pretrained(ref, **how)
        weights = open_clip.renamed(tensors(ref, how["revision"]))
        config = CLIPConfig.from_pretrained(ref, revision=how["revision"])
        plain = {name: how[name] for name in ("dtype", "output_loading_info")}
        return CLIPModel.from_pretrained(None, config=config, state_dict=weights, **plain)


def fit(picture: Picture, side: int) -> Picture:
    """The whole picture within `side` x `side` pixels (bicubic), black around it, as HPSv2 was given it."""
    scale = side / max(picture.size)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    canvas = Image.new("RGB", (side, side))
    inside = picture.convert("RGB").resize((size[0], size[1]), Image.Resampling.BICUBIC)
    canvas.paste(inside, ((side - size[0]) // 2, (side - size[1]) // 2))
    return canvas


class ClipSpace:
    """Loads at once; `frame` None: shortest side and centre crop, by the folder's preprocessor_config."""

    def __init__(
        self, ref: str, *, revision: str | None, device: str, dtype: str, frame: Frame | None = None
    ) -> None:
        self._device, self._dtype, self._frame = device, DTYPES[dtype], frame
        self._processor, self.model = load_model(
            ref,
            "a CLIP model",
            _Weights,
            _Processor,
            revision=revision,
            device=device,
            dtype=self._dtype,
            whole=True,
        )
        self._limit = int(self.model.config.text_config.max_position_embeddings)
        self._kept: dict[tuple[int, str], Tensor] = {}

    @property
    def scale(self) -> float:
        """exp(logit_scale)."""
        return float(self.model.logit_scale.detach().float().exp())

    def cosines(self, prompts: Sequence[str], images: Sequence[Picture]) -> Tensor:
        """cos(picture, prompt) per row, float32 in [-1, 1]."""
        return (self.pictures(images) * self.texts(prompts)).sum(-1)

    @torch.no_grad()
    def pictures(self, images: Sequence[Picture]) -> Tensor:
        """(N, D) float32, of length 1."""
        pixels = frame_pictures(images, self._processor.images, self._frame)
        out = self.model.get_image_features(pixel_values=pixels.to(self._device, self._dtype))
        return _unit(out)

    @torch.no_grad()
    def texts(self, prompts: Sequence[str]) -> Tensor:
        """(N, D) float32, of length 1. A text is encoded in a batch of N, so N is part of what is kept."""
        count = len(prompts)
        found = {text: self._kept[count, text] for text in prompts if (count, text) in self._kept}
        new = [text for text in dict.fromkeys(prompts) if text not in found]
        if new:
            padded = [*new, *[new[-1]] * (count - len(new))]
            tokens = self._processor.tokenizer(
                padded, padding="max_length", truncation=True, max_length=self._limit, return_tensors="pt"
            )
            inputs = {name: tokens[name].to(self._device) for name in ("input_ids", "attention_mask")}
            rows = _unit(self.model.get_text_features(**inputs))
            found.update(zip(new, rows[: len(new)], strict=True))
            self._kept.update(((count, text), found[text]) for text in new)
            for old in list(self._kept)[: max(0, len(self._kept) - KEPT)]:
                del self._kept[old]
        return torch.stack([found[text] for text in prompts])

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Which prompts have more tokens than the model reads, so that their end has no say."""
        return [len(ids) > self._limit for ids in self._processor.tokenizer(list(prompts)).input_ids]


def frame_pictures(images: Sequence[Picture], processor: Any, frame: Frame | None) -> Tensor:
    """(N, 3, H, W) float32, normalised by the processor's mean and standard deviation."""
    rgb = [image.convert("RGB") for image in images]
    if frame is None:
        return torch.as_tensor(np.stack(processor(rgb)["pixel_values"]))
    side = int(processor.crop_size["height"])
    framed = np.stack([np.asarray(frame(image, side), dtype=np.float32) for image in rgb]) / 255
    normal = (framed - np.float32(processor.image_mean)) / np.float32(processor.image_std)
    return torch.from_numpy(normal.transpose(0, 3, 1, 2).copy())


def _unit(out: Any) -> Tensor:
    rows: Tensor = out.pooler_output.float()
    return rows / rows.norm(dim=-1, keepdim=True)

"""Rewards on a CLIP folder: CLIPScore, PickScore, HPSv2.1 and the LAION aesthetic predictor.

Source: the attribute names of https://github.com/mlfoundations/open_clip and of transformers' CLIPModel.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from PIL.Image import Image as Picture
from torch import Tensor, nn
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rpo_cli.backends.loading import DTYPES, load_model, loading
from rpo_cli.backends.tensors import holds, tensors
from rpo_cli.protocols import Weights

SIGN = "visual.conv1.weight"  # a file that holds it is OpenCLIP's
_WHOLE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "logit_scale": "logit_scale",
}
_TURNED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_BEGINNINGS = {
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "ln_final.": "text_model.final_layer_norm.",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)")
_INSIDE = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CLIPModel's state dict; what has no place there (masks) is left out."""
    return {name: value for item in weights.items() for name, value in _renamed(*item)}


def _renamed(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name in _WHOLE:
        yield _WHOLE[name], value
    elif name in _TURNED:  # a matrix that rows are multiplied with, not a Linear's
        yield _TURNED[name], value.T.contiguous()
    elif block := _BLOCK.fullmatch(name):
        tower = "vision_model" if block[1] else "text_model"
        for inside, part in _in_block(block[3], value):
            yield f"{tower}.encoder.layers.{block[2]}.{inside}", part
    else:
        for old, new in _BEGINNINGS.items():
            if name.startswith(old):
                yield new + name.removeprefix(old), value


def _in_block(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    if name.startswith("attn.in_proj_"):
        kind = name.removeprefix("attn.in_proj_")
        for letter, part in zip("qkv", value.chunk(3), strict=True):
            yield f"self_attn.{letter}_proj.{kind}", part.contiguous()
    for old, new in _INSIDE.items():
        if name.startswith(old):
            yield new + name.removeprefix(old), value


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
        if not holds(ref, how["revision"], SIGN):
            return CLIPModel.from_pretrained(ref, **how)
        weights = renamed(tensors(ref, how["revision"]))
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

    def __init__(self, weights: Weights, frame: Frame | None = None) -> None:
        self._device, self._dtype, self._frame = weights.device, DTYPES[weights.dtype], frame
        self._processor, self.model = load_model(weights, "a CLIP model", _Weights, _Processor, whole=True)
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


class _Lazy:
    """A CLIP folder that is loaded when `load` is called; what rewards hold and pickle."""

    def __init__(self, weights: Weights, frame: Frame | None = None) -> None:
        self._weights, self._frame = weights, frame
        self._space: ClipSpace | None = None

    def load(self) -> None:
        self._space = ClipSpace(self._weights, self._frame)

    @property
    def space(self) -> ClipSpace:
        assert self._space is not None, "setup() comes first"
        return self._space


class ClipScore:
    """CLIPScore of any CLIP folder: 2.5 max(cos(picture, prompt), 0), in [0, 2.5].

    The paper puts "A photo depicts" before a caption; torchmetrics and its users do not, nor do we.

    Source: Hessel et al. 2021, arXiv:2104.08718, equation 1.
    """

    def __init__(self, weights: Weights) -> None:
        self._clip = _Lazy(weights)

    def setup(self) -> None:
        self._clip.load()

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        cosines = self._clip.space.cosines(prompts, images)
        found: list[float] = (2.5 * cosines.clamp(min=0)).tolist()
        return found

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        return self._clip.space.cut(prompts)


class PickScore:
    """PickScore: exp(logit_scale) cos(picture, prompt) of a CLIP that was tuned on Pick-a-Pic.

    Source: Kirstain et al. 2023, arXiv:2305.01569; https://github.com/yuvalkirstain/PickScore
    """

    def __init__(self, weights: Weights) -> None:
        self._clip = _Lazy(weights)

    def setup(self) -> None:
        self._clip.load()

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        found: list[float] = (self._clip.space.scale * self._clip.space.cosines(prompts, images)).tolist()
        return found

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        return self._clip.space.cut(prompts)


class HpsReward:
    """HPSv2.1: cos(picture, prompt) of a tuned OpenCLIP ViT-H, in [-1, 1].

    A transformers CLIP folder; its model.safetensors may have OpenCLIP's names. The whole picture is shown,
    black around it, where others cut a square out.

    Source: Wu et al. 2023, arXiv:2306.09341; https://github.com/tgxs002/HPSv2
    """

    def __init__(self, weights: Weights) -> None:
        self._clip = _Lazy(weights, fit)

    def setup(self) -> None:
        self._clip.load()

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        found: list[float] = self._clip.space.cosines(prompts, images).tolist()
        return found

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        return self._clip.space.cut(prompts)


class AestheticReward:
    """LAION's aesthetic predictor: linear layers on CLIP-L's embedding, about 1 to 10; reads no prompt.

    A folder of CLIP's vision tower with projection whose safetensors also hold `layers.0`, `.2`, `.4`, `.6`
    and `.7` (weight, bias), the layers of sac+logos+ava1-l14-linearMSE; no activation is between them.

    Source: https://github.com/christophschuhmann/improved-aesthetic-predictor
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._images: Any = None
        self._model: Any = None
        self._head: Any = None

    def setup(self) -> None:
        self._images, self._model = load_model(
            self._weights,
            "CLIP's vision tower with the aesthetic predictor's layers",
            _Tower,
            _Pictures,
            whole=True,
        )
        kind = "an aesthetic predictor: layers.0, 2, 4, 6 and 7 of its head"
        with loading(self._weights.model, kind, revision=self._weights.revision):
            found = _head(self._weights.model, self._weights.revision)
        self._head = found.eval().to(self._weights.device)

    @torch.no_grad()
    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        pixels = frame_pictures(images, self._images, None).to(
            self._weights.device, DTYPES[self._weights.dtype]
        )
        rows = self._model(pixel_values=pixels).image_embeds.float()
        # one by one: a product with several rows rounds otherwise than with one
        return [float(self._head(row / row.norm())) for row in rows]


class _Tower(CLIPVisionModelWithProjection):
    # the head's, which is loaded by itself
    _keys_to_ignore_on_load_unexpected = [r"^layers\."]  # noqa: RUF012, the library's own attribute


class _Pictures:
    @classmethod
    def from_pretrained(cls, ref: str, **safe: Any) -> Any:
        return CLIPImageProcessorPil.from_pretrained(ref, revision=safe["revision"])


def _head(ref: str, revision: str | None) -> nn.Sequential:
    """The linear layers in float32, their sizes from the file."""
    found = tensors(ref, revision, "layers.")
    weights = [found[f"layers.{place}.weight"] for place in (0, 2, 4, 6, 7)]
    head = nn.Sequential(*(nn.Linear(weight.shape[1], weight.shape[0]) for weight in weights))
    names = dict(zip((0, 2, 4, 6, 7), range(5), strict=True))
    head.load_state_dict(
        {
            f"{names[place]}.{kind}": found[f"layers.{place}.{kind}"].float()
            for place in names
            for kind in ("weight", "bias")
        }
    )
    return head

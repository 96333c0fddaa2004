"""Rewards on a CLIP folder: CLIPScore, PickScore, HPSv2.1 and the LAION aesthetic predictor.

Change a scorer's version in `recipes/rewards.py` with anything here that changes its scores.
"""

from collections.abc import Sequence
from typing import Any

import torch
from PIL.Image import Image as Picture
from torch import nn
from transformers import CLIPVisionModelWithProjection
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from rpo_cli.backends.clip_space import ClipSpace, Frame, fit, frame_pictures
from rpo_cli.backends.loading import load_model, told
from rpo_cli.backends.pipelines import DTYPES
from rpo_cli.backends.tensors import tensors


class _Lazy:
    """A CLIP folder that is loaded when `load` is called; what rewards hold and pickle."""

    def __init__(self, model: str, how: dict[str, Any], frame: Frame | None = None) -> None:
        self._model, self._how, self._frame = model, how, frame
        self._space: ClipSpace | None = None

    def load(self) -> None:
        self._space = ClipSpace(self._model, frame=self._frame, **self._how)

    @property
    def space(self) -> ClipSpace:
        assert self._space is not None, "setup() comes first"
        return self._space


class ClipScore:
    """CLIPScore of any CLIP folder: 2.5 max(cos(picture, prompt), 0), in [0, 2.5].

    The paper puts "A photo depicts" before a caption; torchmetrics and its users do not, nor do we.

    Source: Hessel et al. 2021, arXiv:2104.08718, equation 1.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self._clip = _Lazy(model, {"revision": revision, "device": device, "dtype": dtype})

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

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self._clip = _Lazy(model, {"revision": revision, "device": device, "dtype": dtype})

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

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self._clip = _Lazy(model, {"revision": revision, "device": device, "dtype": dtype}, fit)

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

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> None:
        self._ref, self._revision, self._device, self._dtype = model, revision, device, dtype
        self._images: Any = None
        self._model: Any = None
        self._head: Any = None

    def setup(self) -> None:
        self._images, self._model = load_model(
            self._ref,
            "CLIP's vision tower with the aesthetic predictor's layers",
            _Tower,
            _Pictures,
            revision=self._revision,
            device=self._device,
            dtype=DTYPES[self._dtype],
            whole=True,
        )
        kind = "an aesthetic predictor: layers.0, 2, 4, 6 and 7 of its head"
        found = told(self._ref, kind, lambda: _head(self._ref, self._revision))
        self._head = found.eval().to(self._device)

    @torch.no_grad()
    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        pixels = frame_pictures(images, self._images, None).to(self._device, DTYPES[self._dtype])
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

"""Backends that return at once, and what they return: small pictures of noise, one flaw, a number.

They are registered as a stranger's plugin (`plugin.py`).
"""

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Image as Picture

from rpo_cli.protocols import Conversation, EditRequest, Reply

SIDE = 16  # pixels
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "purple", "orange")
THINGS = ("circle", "square", "lamp", "cat", "tree", "house", "cup", "car", "road", "cloud", "sign", "bird")
TEXT = (
    "The picture shows a scene with one main thing in the middle of a plain background. It is drawn well "
    "and lit from the left. What the prompt asks for is mostly there, but the {thing} is not {colour}."
)
Pixels = NDArray[np.uint8]


def drawn(seed: int) -> Pixels:
    """Noise of the seed, (SIDE, SIDE, 3)."""
    data = random.Random(seed).randbytes(SIDE * SIDE * 3)
    return np.frombuffer(data, dtype=np.uint8).reshape(SIDE, SIDE, 3)


def mended(pixels: Pixels) -> Pixels:
    """The picture with its lower quarter turned to its negative: a change that no gate drops."""
    return np.concatenate([pixels[: -SIDE // 4], 255 - pixels[-SIDE // 4 :]])


def scored(pixels: Pixels) -> float:
    """In [0, 6]: the last pixel, so that half of the edits score higher than their original."""
    return float(pixels[-1, -1].astype(float).sum() / 127.5)


def flaw(pixels: Pixels) -> tuple[str, str]:
    """(thing, colour) that is missing; 96 different ones."""
    return THINGS[int(pixels[0, 0, 0]) % len(THINGS)], COLOURS[int(pixels[0, 0, 1]) % len(COLOURS)]


def said(pixels: Pixels) -> str:
    """The free text of the first turn."""
    thing, colour = flaw(pixels)
    return TEXT.format(thing=thing, colour=colour)


def asked(pixels: Pixels) -> dict[str, Any]:
    """The JSON of the second turn."""
    thing, colour = flaw(pixels)
    flaws = [{"aspect": "colour", "detail": f"the {thing} is not {colour}"}]
    return {"flaws": flaws, "instructions": [f"make the {thing} {colour}"]}


class _Instant:
    def __init__(self, model: str, **options: Any) -> None:
        pass

    def setup(self) -> None:
        pass


class Generator(_Instant):
    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Picture | None]:
        return [Image.fromarray(drawn(seed)) for seed in seeds]


class Critic(_Instant):
    def reply(
        self,
        conversations: Sequence[Conversation],
        *,
        schema: dict[str, Any] | None,
        seeds: Sequence[int] | None,
        max_tokens: int,
    ) -> list[Reply]:
        seen = [np.asarray(talk[0].image) for talk in conversations]
        texts = [said(pixels) if schema is None else json.dumps(asked(pixels)) for pixels in seen]
        return [Reply(text, "stop") for text in texts]


class Editor(_Instant):
    def edit(
        self, requests: Sequence[EditRequest], *, guidance: float | None, image_guidance: float | None
    ) -> list[Picture | None]:
        return [
            Image.fromarray(mended(np.asarray(item.image))) if item.instruction else item.image
            for item in requests
        ]


class Reward(_Instant):
    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        return [scored(np.asarray(image)) for image in images]

"""Pictures half way back to noise and down again, with any diffusers text-to-image model."""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoPipelineForImage2Image
from PIL.Image import Image as Picture

from rpo_cli.backends.generator import DiffusersGenerator
from rpo_cli.backends.pipelines import generators
from rpo_cli.backends.reading import tokens_over
from rpo_cli.errors import RpoError


class DiffusersRenoiser:
    """The image-to-image form of a text-to-image folder or hub id, on the same weights.

    Source: SDEdit, Meng et al. 2022, arXiv:2108.01073.
    """

    def __init__(
        self, model: str, *, steps: int = 50, guidance: float | None = 7.5, **options: Any
    ) -> None:
        """The options are those of `DiffusersGenerator`; every picture keeps its own size."""
        self._model, self._steps = model, steps
        # a model that takes no guidance says what its pipeline must be told instead
        fixed = (options.get("call") or {}).get("guidance_scale", 1.0)
        self._guidance = fixed if guidance is None else guidance
        self._negative_prompt: str | None = options.get("negative_prompt")
        self._generator = DiffusersGenerator(model, **options)
        self._pipe: Any = None

    def setup(self) -> None:
        self._generator.setup()
        try:
            self._pipe = AutoPipelineForImage2Image.from_pipe(self._generator.pipe)
        except ValueError as error:
            raise RpoError(
                f"{self._model}: diffusers has no image-to-image form of it: {error}",
                "sapo needs one; spin makes its losers from noise alone",
            ) from error
        self._pipe.set_progress_bar_config(disable=True)

    def tokens_over(self, texts: Sequence[str]) -> list[dict[str, int]]:
        """See `protocols.Generator`."""
        return tokens_over(self._pipe, texts)

    @torch.no_grad()
    def renoise(
        self, pictures: Sequence[Picture], prompts: Sequence[str], seeds: Sequence[int], *, strength: float
    ) -> list[Picture | None]:
        """One picture per picture (all of one size); None where a safety checker blacked it out.

        At least one step is taken: strength times steps, rounded down, would be none at few steps.
        """
        call: dict[str, Any] = {}
        if self._negative_prompt is not None:
            call["negative_prompt"] = [self._negative_prompt] * len(prompts)
        out = self._pipe(
            prompt=list(prompts),
            image=[picture.convert("RGB") for picture in pictures],
            strength=max(strength, 1 / self._steps),
            num_inference_steps=self._steps,
            guidance_scale=self._guidance,
            generator=generators(list(seeds)),
            **call,
        )
        flags = getattr(out, "nsfw_content_detected", None) or [False] * len(prompts)
        return [
            None if flagged else image.convert("RGB")
            for image, flagged in zip(out.images, flags, strict=True)
        ]

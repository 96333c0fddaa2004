"""Rewards: how well a picture shows its prompt."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from PIL.Image import Image as Picture
from transformers import CLIPModel, CLIPProcessor

from rpo_cli import registry, templates
from rpo_cli.backends.loading import DTYPES, load_model
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Message, Weights


class ClipReward:
    """Any CLIP folder (Radford et al. 2021, arXiv:2103.00020): exp(logit_scale) times the cosine.

    PickScore is one too. No further scaling.

    Texts are cut to what the model reads and padded to that length, so a score does not depend on
    the other prompts of its batch.
    """

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._model: Any = None
        self._processor: Any = None

    def setup(self) -> None:
        self._processor, self._model = load_model(
            self._weights,
            "a CLIP model",
            CLIPModel,
            CLIPProcessor,
        )

    @torch.no_grad()
    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        """exp(logit_scale) * cos(picture, prompt) per row; unbounded, higher is better."""
        inputs = self._processor(
            text=list(prompts),
            images=[image.convert("RGB") for image in images],
            padding="max_length",
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._weights.device, DTYPES[self._weights.dtype])
        out = self._model(**inputs)
        cosines = (out.image_embeds.float() * out.text_embeds.float()).sum(-1)
        scores: list[float] = (self._model.logit_scale.float().exp() * cosines).tolist()
        return scores


class VqaScore:
    """The probability that a critic answers yes to "does this picture show the prompt?".

    `template` asks it; None: the one of the package.

    Source: VQAScore, Lin et al. 2024, arXiv:2404.01291.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        backend: str = "transformers",
        server: Mapping[str, Any] | None = None,
        template: templates.Template | None = None,
    ) -> None:
        self._critic = registry.build("critics", backend, weights, **(server or {}))
        self.lanes: int = getattr(self._critic, "lanes", 0)
        self.notes: list[str] = []
        self._question = template or templates.find(registry.entry("rewards", "vqascore").template or "")

    def setup(self) -> None:
        """Raises UsageError for a server that does not say how likely tokens are."""
        self._critic.setup()
        if hasattr(self._critic, "tells_probabilities") and not self._critic.tells_probabilities():
            raise UsageError(
                "score.rewards: vqascore: this server does not say how likely tokens are (logprobs)",
                "serve it with vLLM (--reward-backend vllm-server), or let it judge: --reward judge=MODEL",
            )
        self.notes = list(getattr(self._critic, "notes", ()))

    def close(self) -> None:
        if hasattr(self._critic, "close"):
            self._critic.close()

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        """P(yes) / (P(yes) + P(no)) per row, in [0, 1]."""
        asked = [
            (Message("user", self._question.fill(prompt=prompt), image),)
            for prompt, image in zip(prompts, images, strict=True)
        ]
        found: list[float] = self._critic.yes_probability(asked)
        return found

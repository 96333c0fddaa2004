"""A VLM that says which of two pictures shows their prompt better."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL.Image import Image as Picture

from rpo_cli import registry, templates
from rpo_cli.protocols import Message, Weights

SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "pattern": r'^[^\u0000-\u001f\u007f"\\]{1,400}$'},
        "better": {"type": "string", "enum": ["first", "second", "tie"]},
    },
    "required": ["reason", "better"],
    "additionalProperties": False,
}
VALUES = {"first": 1.0, "second": -1.0, "tie": 0.0}
TRIES = (None, 1, 2)  # greedy, then sampled with these seeds
MAX_TOKENS = 300


class PairJudge:
    """A VLM's verdict on two pictures, asked in both orders: a tie when the answers disagree.

    `template` asks it; None: the one of the package.

    Source: LLM-as-a-judge with swapped positions, Zheng et al. 2023, arXiv:2306.05685.
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
        self._question = template or templates.find(registry.entry("rewards", "judge").template or "")

    def setup(self) -> None:
        self._critic.setup()
        self.notes = list(getattr(self._critic, "notes", ()))

    def close(self) -> None:
        if hasattr(self._critic, "close"):
            self._critic.close()

    def score(self, prompts: Sequence[str], images: Sequence[Picture]) -> list[float]:
        """Each picture against the first one of its prompt in this call: 1 better, 0 a tie, -1 worse.

        NaN where the judge gives no verdict. The first one itself is 0.
        """
        first: dict[str, Picture] = {}
        found = []
        for prompt, image in zip(prompts, images, strict=True):
            other = first.setdefault(prompt, image)
            found.append(0.0 if other is image else self._compare(prompt, image, other))
        return found

    def _compare(self, prompt: str, image: Picture, other: Picture) -> float:
        ahead = self._verdict(prompt, image, other)
        behind = -self._verdict(prompt, other, image)
        if math.isnan(ahead) or math.isnan(behind):
            return math.nan
        return ahead if ahead == behind else 0.0

    def _verdict(self, prompt: str, one: Picture, two: Picture) -> float:
        question = self._question.fill(prompt=prompt)
        asked = (Message("user", question, one, (two,)),)
        for seed in TRIES:
            seeds = None if seed is None else [seed]
            (reply,) = self._critic.reply([asked], schema=SCHEMA, seeds=seeds, max_tokens=MAX_TOKENS)
            if reply.finish == "stop" and (value := _value(reply.text)) is not None:
                return value
        return math.nan


def _value(text: str) -> float | None:
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(said, dict) and said.keys() == {"reason", "better"}
    return VALUES.get(said["better"]) if whole and isinstance(said["better"], str) else None

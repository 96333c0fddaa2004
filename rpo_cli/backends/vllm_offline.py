"""A critic by vLLM in this process (`LLM.chat`), batch by batch; the server keeps a GPU busier."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

from rpo_cli import installing
from rpo_cli.backends.served import SAMPLING, TOP, yes_share
from rpo_cli.backends.vllm_server import CPU_ENVIRONMENT, ENVIRONMENT, PICTURES, STRUCTURED
from rpo_cli.errors import Case, MissingDependency, translated
from rpo_cli.protocols import Conversation, Message, Reply, Weights
from rpo_cli.templates import disarm

_LOADING = (
    Case(
        [ImportError],
        "vLLM cannot be imported: {why}",
        "run rpo where vLLM is, or take vllm-server: {install}",
        MissingDependency,
    ),
    Case(
        [ValueError, RuntimeError, OSError],
        "{where}: vLLM does not load it: {why}",
        "see `rpo list critics`",
    ),
)


class VllmCritic:
    """vLLM's `LLM.chat` where vLLM is installed beside rpo (see `protocols.Critic`).

    Source: vLLM, Kwon et al. 2023, arXiv:2309.06180; https://docs.vllm.ai
    """

    def __init__(
        self,
        weights: Weights,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._weights = weights
        self._kwargs = {"chat_template_kwargs": dict(chat_template_kwargs)} if chat_template_kwargs else {}
        self._llm: Any = None

    def setup(self) -> None:
        """Load the model.

        Raises:
            MissingDependency: there is no vLLM in this Python.
            RpoError: vLLM does not load the model.
        """
        on_cpu = self._weights.device == "cpu"
        alone = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", **CPU_ENVIRONMENT} if on_cpu else {}
        for name, value in {**ENVIRONMENT, **alone}.items():
            os.environ.setdefault(name, value)
        with translated(*_LOADING, where=self._weights.model, install=installing.own_environment()):
            from vllm import LLM

            self._llm = LLM(
                model=self._weights.model,
                revision=self._weights.revision,
                dtype=self._weights.dtype,
                enforce_eager=on_cpu,
                limit_mm_per_prompt={"image": PICTURES},
                structured_outputs_config=STRUCTURED,
            )

    def reply(
        self,
        conversations: Sequence[Conversation],
        *,
        schema: dict[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        max_tokens: int = 512,
    ) -> list[Reply]:
        """One reply per conversation: greedy, or sampled with the given seeds."""
        from vllm import SamplingParams
        from vllm.sampling_params import StructuredOutputsParams

        held = {} if schema is None else {"structured_outputs": StructuredOutputsParams(json=schema)}
        chosen: list[dict[str, Any]] = [{"temperature": 0.0}] * len(conversations)
        if seeds is not None:
            chosen = [{**SAMPLING, "seed": seed} for seed in seeds]
        how = [SamplingParams(max_tokens=max_tokens, **held, **one) for one in chosen]
        made = (answer.outputs[0] for answer in self._chat(conversations, how))
        return [
            Reply(one.text.strip(), "length" if one.finish_reason == "length" else "stop") for one in made
        ]

    def yes_probability(self, conversations: Sequence[Conversation]) -> list[float]:
        """P(yes) / (P(yes) + P(no)) of the next token, in [0, 1]; NaN when neither is among the likeliest.

        Source: VQAScore, Lin et al. 2024, arXiv:2404.01291.
        """
        from vllm import SamplingParams

        how = [SamplingParams(temperature=0.0, max_tokens=1, logprobs=TOP)] * len(conversations)
        told = (answer.outputs[0].logprobs[0].values() for answer in self._chat(conversations, how))
        return [
            yes_share({str(one.decoded_token): math.exp(one.logprob) for one in likely}) for likely in told
        ]

    def _chat(self, conversations: Sequence[Conversation], how: list[Any]) -> list[Any]:
        asked = [[_turn(message) for message in one] for one in conversations]
        answers: list[Any] = self._llm.chat(asked, sampling_params=how, use_tqdm=False, **self._kwargs)
        return answers

    def close(self) -> None:
        """Give the model's memory back."""
        self._llm = None


def _turn(message: Message) -> dict[str, Any]:
    pictures = [{"type": "image_pil", "image_pil": one.convert("RGB")} for one in message.pictures]
    text = disarm(message.text) if message.role == "assistant" else message.text
    return {"role": message.role, "content": [*pictures, {"type": "text", "text": text}]}

"""Holds generated text to a JSON schema, token by token (llguidance: 40 of 40 valid, feasibility.md 2)."""

import json
from typing import Any

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor
from transformers import LogitsProcessor

from rpo_cli.errors import RpoError


def token_table(tokenizer: Any, vocabulary: int, ends: list[int]) -> LLTokenizer:
    """llguidance's view of a fast tokenizer; made once per model (up to a second).

    Raises:
        RpoError: the tokenizer is not a fast one.
    """
    try:
        return llguidance.hf.from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=ends)
    except ValueError as error:
        raise RpoError(
            f"constrained JSON needs a fast tokenizer: {error}", "choose a model that has tokenizer.json"
        ) from error


class JsonGrammar(LogitsProcessor):
    """Forbids every token that cannot continue valid JSON of the schema; one instance per generate call.

    JSON comes out compact, without free white space, so that a small model's token budget lasts.
    After the closing brace only the end token is left.
    """

    def __init__(self, table: LLTokenizer, schema: dict[str, Any], rows: int, end: int) -> None:
        compiled = LLMatcher.grammar_from_json_schema(
            json.dumps(schema), overrides={"whitespace_flexible": False}
        )
        self._matchers = [LLMatcher(table, compiled, log_level=0) for _ in range(rows)]
        if message := self._matchers[0].get_error():
            raise RpoError(f"the schema is no grammar: {message}", "report this: the schema is rpo's own")
        self._started, self._end = False, end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """scores (rows, vocabulary) with forbidden tokens at -inf."""
        if self._started:
            for matcher, token in zip(self._matchers, input_ids[:, -1].tolist(), strict=True):
                if not matcher.is_stopped():
                    matcher.consume_token(token)
        self._started = True
        allowed = np.zeros(scores.shape, dtype=bool)
        for row, matcher in enumerate(self._matchers):
            if matcher.is_stopped():
                allowed[row, self._end] = True
                continue
            bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
            known = np.unpackbits(bits, bitorder="little")[: scores.shape[1]].astype(bool)
            allowed[row, : len(known)] = known
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), float("-inf"))

"""A critic from any image-text-to-text model of transformers, held to a JSON schema token by token."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, LogitsProcessor, LogitsProcessorList

from rpo_cli.backends.loading import DTYPES, load_model
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Conversation, Message, Reply, Weights


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


WIDTH_STEP = 64  # tokens; a conversation is padded to a multiple of it, whatever its neighbours' lengths
SAMPLING = {"do_sample": True, "temperature": 0.7, "top_p": 0.95}


class TransformersCritic:
    """`AutoModelForImageTextToText` with its chat template (see `protocols.Critic`).

    Left padding to a width that follows from the row alone, and a fixed number of rows: so a reply
    does not depend on the other conversations of its batch.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._weights = weights
        self._kwargs = dict(chat_template_kwargs or {})
        self._model: Any = None
        self._processor: Any = None
        self._table: Any = None

    def setup(self) -> None:
        self._processor, self._model = load_model(
            self._weights,
            "a vision-language model",
            AutoModelForImageTextToText,
            AutoProcessor,
        )
        self._check_kwargs()
        tokenizer = self._processor.tokenizer
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._table = token_table(tokenizer, self._vocabulary, self._ends)

    def _check_kwargs(self) -> None:
        """Refuse a name that the chat template does not use: it would be taken for the processor's.

        Raises:
            UsageError: so it is.
        """
        template = self._processor.chat_template or ""
        text = " ".join(template.values()) if isinstance(template, dict) else template
        if unknown := [name for name in self._kwargs if not re.search(rf"\b{name}\b", text)]:
            raise UsageError(
                f"critique.chat_template_kwargs: the template of {self._weights.model} uses no "
                + ", ".join(unknown),
                "leave it out; the model's card says what its template takes",
            )

    @property
    def _vocabulary(self) -> int:
        return int(self._model.get_output_embeddings().weight.shape[0])

    @property
    def _ends(self) -> list[int]:
        """Ids of the tokens that end a reply."""
        ends = self._model.generation_config.eos_token_id
        if ends is None:
            ends = self._processor.tokenizer.eos_token_id
        return [ends] if isinstance(ends, int) else list(ends)

    @torch.no_grad()
    def reply(
        self,
        conversations: Sequence[Conversation],
        *,
        schema: dict[str, Any] | None = None,
        seeds: Sequence[int] | None = None,
        max_tokens: int = 512,
    ) -> list[Reply]:
        """One reply per conversation: greedy in batches, or sampled one at a time with the given seeds."""
        if seeds is not None:
            pairs = zip(conversations, seeds, strict=True)
            return [self._sampled(one, seed, schema, max_tokens) for one, seed in pairs]
        replies: dict[int, Reply] = {}
        for rows, inputs in self._batches(conversations):
            made = self._generate(inputs, schema, max_tokens, {"do_sample": False})
            replies.update(zip(rows, made, strict=False))  # what is over is padding
        return [replies[row] for row in range(len(conversations))]

    def _sampled(self, one: Conversation, seed: int, schema: Any, max_tokens: int) -> Reply:
        ((_, inputs),) = self._batches([one])
        device = self._weights.device
        devices = [] if device == "cpu" else [device]
        with torch.random.fork_rng(devices, device_type=torch.device(device).type):
            torch.manual_seed(seed)
            return self._generate(inputs, schema, max_tokens, SAMPLING)[0]

    def _generate(self, inputs: Any, schema: Any, max_tokens: int, how: dict[str, Any]) -> list[Reply]:
        width = inputs["input_ids"].shape[1]
        grammar = LogitsProcessorList()
        if schema is not None:
            grammar.append(JsonGrammar(self._table, schema, len(inputs["input_ids"]), self._ends[0]))
        plain = {"temperature": None, "top_p": None, "top_k": None, "num_beams": 1}
        pad = self._processor.tokenizer.pad_token_id
        out = self._model.generate(
            **inputs,
            max_new_tokens=max_tokens,
            logits_processor=grammar,
            pad_token_id=pad,
            **{**plain, **how},
        )
        return [self._read(row) for row in out[:, width:].tolist()]

    def _read(self, tokens: list[int]) -> Reply:
        stop = next((i for i, token in enumerate(tokens) if token in self._ends), None)
        text = self._processor.tokenizer.decode(tokens[:stop], skip_special_tokens=True)
        return Reply(text.strip(), "length" if stop is None else "stop")

    @torch.no_grad()
    def yes_probability(self, conversations: Sequence[Conversation]) -> list[float]:
        """P(yes) / (P(yes) + P(no)) of the next token, in [0, 1].

        Source: VQAScore, Lin et al. 2024, arXiv:2404.01291.
        """
        found: dict[int, float] = {}
        for rows, inputs in self._batches(conversations):
            logits = self._model(**inputs, logits_to_keep=1).logits[:, -1].float()
            yes, no = (logits[:, self._first_tokens(word)].logsumexp(1) for word in ("yes", "no"))
            found.update(zip(rows, (yes - no).sigmoid().tolist(), strict=False))
        return [found[row] for row in range(len(conversations))]

    def _first_tokens(self, word: str) -> list[int]:
        """The first token of a word in its spellings: yes, Yes, and both after a space."""
        spellings = (word, word.capitalize(), f" {word}", f" {word.capitalize()}")
        encode = self._processor.tokenizer.encode
        first = {s: encode(s, add_special_tokens=False) for s in spellings}
        # a spelling in several pieces begins with a letter or space that other words share
        whole = {ids[0] for ids in first.values() if len(ids) == 1}
        return sorted(whole or {first[word][0]})

    def _batches(self, conversations: Sequence[Conversation]) -> Iterator[tuple[list[int], Any]]:
        """(row numbers, inputs of as many rows as there are conversations): one for each width needed."""
        chats = [[self._turn(message) for message in one] for one in conversations]
        together = self._encode(chats)
        lengths = together["attention_mask"].sum(1).tolist()
        widths = [WIDTH_STEP * math.ceil(length / WIDTH_STEP) for length in lengths]
        for width in sorted(set(widths)):
            rows = [row for row, own in enumerate(widths) if own == width]
            inputs = together
            if len(rows) < len(chats):
                filler = [rows[-1]] * (len(chats) - len(rows))
                inputs = self._encode([chats[row] for row in [*rows, *filler]])
            yield rows, _left_padded(inputs, width, self._processor.tokenizer.pad_token_id)

    def _encode(self, chats: list[list[dict[str, Any]]]) -> Any:
        return self._processor.apply_chat_template(
            chats,
            **self._kwargs,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self._weights.device, DTYPES[self._weights.dtype])

    def _turn(self, message: Message) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "image", "image": picture.convert("RGB")} for picture in message.pictures
        ]
        return {
            "role": message.role,
            "content": [*content, {"type": "text", "text": self._harmless(message.text)}],
        }

    def _harmless(self, text: str) -> str:
        """Text with this model's own control tokens broken up: what is said in a turn stays in it."""
        added = self._processor.tokenizer.added_tokens_decoder.values()
        for token in (str(token) for token in added if token.special):
            if token.strip():
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text


def _left_padded(inputs: Any, width: int, pad: int) -> dict[str, Tensor]:
    """Token-wise inputs cut or padded on the left to `width`; pictures as they are."""
    tokens = inputs["input_ids"].shape
    padded = {}
    for name, value in inputs.items():
        if value.shape == tokens:
            fill = pad if name == "input_ids" else 0
            left = value.new_full((tokens[0], max(0, width - tokens[1])), fill)
            value = torch.cat([left, value[:, max(0, tokens[1] - width) :]], dim=1)
        padded[name] = value
    return padded

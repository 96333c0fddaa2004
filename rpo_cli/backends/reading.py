"""How much of a text a pipeline's text encoders read: what is beyond has no say in the picture."""

import inspect
from collections.abc import Sequence
from typing import Any

from transformers import (
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerBase,
    T5EncoderModel,
)

CLIP = (CLIPTextModel, CLIPTextModelWithProjection)
ENDLESS = 10**6  # a tokenizer without a limit names a number beyond any text


def tokens_over(pipe: Any, texts: Sequence[str], *, longest: int | None = None) -> list[dict[str, int]]:
    """Per text: tokenizer of the pipeline → tokens beyond what its text encoder reads; {}: all is read.

    Special tokens count, and those of a chat template. A tokenizer whose limit cannot be told, or that
    reads beside a picture's processor, is left out.

    Args:
        longest: tokens that the pipeline's call asks for of encoders other than CLIP; None: its own number.
    """
    found: list[dict[str, int]] = [{} for _ in texts]
    for name, limit in limits(pipe, longest).items():
        for over, count in zip(found, _counts(pipe, name, texts), strict=True):
            if count > limit:
                over[name] = count - limit
    return found


def limits(pipe: Any, longest: int | None = None) -> dict[str, int]:
    """Tokenizer → tokens that its text encoder is given at most."""
    parts: dict[str, Any] = pipe.components
    if parts.get("processor") is not None:
        return {}
    own = inspect.signature(type(pipe).__call__).parameters.get("max_sequence_length")
    asked = longest if longest is not None else own.default if own is not None else None
    told = {
        name: _limit(parts[name], parts.get(_encoder(name)), asked)
        for name in parts
        if name.startswith("tokenizer") and isinstance(parts[name], PreTrainedTokenizerBase)
    }
    return {name: limit for name, limit in told.items() if limit is not None}


def _encoder(tokenizer: str) -> str:
    return tokenizer.replace("tokenizer", "text_encoder", 1)


def _limit(tokenizer: Any, encoder: Any, asked: Any) -> int | None:
    if isinstance(asked, int) and not isinstance(encoder, CLIP):
        return asked
    if tokenizer.model_max_length < ENDLESS:
        return int(tokenizer.model_max_length)
    return int(encoder.config.max_position_embeddings) if isinstance(encoder, CLIP) else None


def _counts(pipe: Any, name: str, texts: Sequence[str]) -> list[int]:
    tokenizer, encoder = getattr(pipe, name), pipe.components.get(_encoder(name))
    told = list(texts)
    if tokenizer.chat_template and not isinstance(encoder, (*CLIP, T5EncoderModel)):
        how = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
        turns = ([{"role": "user", "content": text}] for text in told)
        told = [tokenizer.apply_chat_template(turn, **how) for turn in turns]
    return [len(ids) for ids in tokenizer(told, truncation=False, verbose=False).input_ids]

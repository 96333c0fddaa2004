"""A byte-level BPE tokenizer: every word and mark of given texts is one token, other text has tokens too.

Nothing is learned: merges are laid down piece by piece. The reward uses the pipelines' tokenizer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from rpo_cli.shapes.recipe.tokenizer import byte_characters

PAD, USER, ASSISTANT = "<|pad|>", "<|user|>", "<|assistant|>"
END, IMAGE, AROUND, GLOBAL = "<end_of_utterance>", "<image>", "<fake_token_around_image>", "<global-img>"
SPECIAL = (PAD, USER, ASSISTANT, END, IMAGE, AROUND, GLOBAL)
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def split(text: str) -> list[str]:
    """The pieces (words with their leading space, runs of marks, numbers) that are never merged across."""
    return [piece for piece, _ in _splitter().pre_tokenize_str(text)]


def _splitter() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _merged(piece: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    parts = list(piece)
    while True:
        found = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        if not found:
            return parts
        index = min(found)[1]
        parts[index : index + 2] = [parts[index] + parts[index + 1]]


def merges_for(pieces: Iterable[str]) -> list[tuple[str, str]]:
    """Merges that make each piece one token; a later merge ranks below all earlier and breaks none."""
    ranks: dict[tuple[str, str], int] = {}
    for piece in pieces:
        parts = _merged(piece, ranks)
        while len(parts) > 1:
            ranks[parts[0], parts[1]] = len(ranks)
            parts = _merged(piece, ranks)
    return list(ranks)


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """The tokenizer for a chat model whose texts are made of the pieces of `texts`."""
    pieces = sorted({piece for text in texts for piece in split(text)})
    merges = merges_for(pieces)
    entries = dict.fromkeys([*SPECIAL, *byte_characters(), *(a + b for a, b in merges)])
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    backend.pre_tokenizer = _splitter()
    backend.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT, IMAGE, AROUND, GLOBAL],
        padding_side="left",
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = CHAT_TEMPLATE
    return made

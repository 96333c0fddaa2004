"""A byte-level CLIP tokenizer in which every word of the world is one token and any other text
still has tokens.

Nothing is learned: merges are laid down word by word. To add a word: it comes by itself with the
grammar.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from transformers import CLIPTokenizer

from rpo_cli.shapes.edits import instruction_words
from rpo_cli.shapes.grammar import caption_words

MAX_LENGTH = 40  # tokens; three joined instructions fit, longer text is cut
END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"


def byte_characters() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level BPE uses (GPT-2's table), in byte
    order.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    table = {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + index) for index, byte in enumerate(others)
    }
    return [table[byte] for byte in range(256)]


def world_words() -> list[str]:
    """Every word and mark of captions and instructions, sorted."""
    text = f"{caption_words()} {instruction_words()}"
    return sorted(set(re.findall(r"[a-z]+|[^a-z\s]+", text)))


def _pieces(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """The word under byte-pair merges, earliest merge first."""
    pieces = [*word[:-1], word[-1] + END_OF_WORD]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while True:
        pairs = [(ranks[pair], i) for i, pair in enumerate(itertools.pairwise(pieces)) if pair in ranks]
        if not pairs:
            return pieces
        index = min(pairs)[1]
        pieces[index : index + 2] = [pieces[index] + pieces[index + 1]]


def world_merges(words: list[str]) -> list[tuple[str, str]]:
    """Merges that make each word one token. A later merge never breaks an earlier word: it ranks
    below all of its.
    """
    merges: list[tuple[str, str]] = []
    for word in words:
        pieces = _pieces(word, merges)
        while len(pieces) > 1:
            merges.append((pieces[0], pieces[1]))
            pieces = _pieces(word, merges)
    return merges


def build_tokenizer() -> CLIPTokenizer:
    """The tokenizer of both pipelines, some 700 entries."""
    characters = byte_characters()
    merges: Any = world_merges(world_words())  # the stub says list[str]; pairs are what it takes
    entries = [*characters, *(c + END_OF_WORD for c in characters), *(a + b for a, b in merges)]
    entries += [START, END]
    vocabulary = {entry: index for index, entry in enumerate(dict.fromkeys(entries))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)

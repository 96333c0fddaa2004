"""Which split a prompt belongs to: a pure function of its text, the same in every run and everywhere."""

import hashlib
from typing import Literal

from rpo_cli.text import normalised


def split_of(prompt: str, val_fraction: float) -> Literal["train", "validation"]:
    """`val_fraction` in [0, 1) of all prompts go to validation; spellings of one prompt stand together."""
    digest = hashlib.sha256(b"split\0" + normalised(prompt).encode()).digest()
    return "validation" if int.from_bytes(digest[:8], "big") / 2**64 < val_fraction else "train"

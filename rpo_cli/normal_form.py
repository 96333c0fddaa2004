"""The normal form of a prompt: what is the same to a reader is the same here.

It decides the split, the caps per prompt and what a list of prompts to leave out means. A prompt's text and
identity are its own, letter by letter.
"""

import re
import unicodedata

# What nobody sees: soft hyphen, grapheme joiner, Arabic letter mark, Mongolian selectors, zero-width spaces
# and joiners, marks, embeddings and isolates of direction, byte-order mark, variation selectors.
UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\U000e0100-\U000e01ef]"
)


def normalised(prompt: str) -> str:
    """NFKC, case folded, less what nobody sees, runs of white space as one space; letters' marks stay."""
    seen = UNSEEN.sub("", prompt)
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return " ".join(folded.split())

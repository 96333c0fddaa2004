"""Text: of files (UTF-8, with or without a mark, or what the user says), for terminals, and as prompts.

A prompt's normal form decides the split, the caps per prompt and what a list of prompts to leave out means.
Its text and identity are its own, letter by letter.
"""

import codecs
import hashlib
import io
import re
import unicodedata
from typing import IO, Any, Literal

from rpo_cli.errors import UsageError, nearest

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


# ANSI sequences; other C0 and C1 controls but tab and newline; marks that reverse the reading direction
_CONTROL = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)?|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
    "|[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """`text`, from a file or model, without anything that could steer a terminal."""
    return _CONTROL.sub("", text)


MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
MARK = "\ufeff"
DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
HINT = "save it as UTF-8, or, where a command has it, --encoding NAME (cp1252, utf-16, shift_jis, ...)"


class NotText(Exception):
    """Bytes that are not the text they should be; says which line and byte."""


def delimiter_of(name: str | None) -> str | None:
    """A delimiter as a user names it: one character, or comma, semicolon, tab, pipe.

    Raises:
        UsageError: something else.
    """
    if name is None:
        return None
    char = DELIMITER_NAMES.get(name, "\t" if name == r"\t" else name)
    if len(char) != 1 or char in '"\r\n':
        raise UsageError(
            f"--delimiter {name}: not one character", f"or one of {', '.join(DELIMITER_NAMES)}"
        )
    return char


def known_encoding(name: str | None) -> None:
    """Refuse a name that is no encoding of text.

    Raises:
        UsageError: with the nearest name.
    """
    try:
        "".encode(name or "utf-8")
    except LookupError as error:
        usual = ["utf-8", "utf-16", "utf-32", "cp1252", "latin-1", "shift_jis", "gb18030", "big5", "euc-kr"]
        raise UsageError(
            f"--encoding {name}: no encoding that Python knows{nearest(str(name), usual)}",
            f"for example {', '.join(usual[1:6])}",
        ) from error


def decoded(data: bytes, encoding: str | None = None) -> str:
    """The text of some bytes, without its byte-order mark.

    Args:
        encoding: of the bytes; None: UTF-8.

    Raises:
        NotText: the line and byte that are at fault, or the encoding that the first bytes name.
    """
    if encoding is None and (named := next((name for mark, name in MARKS if data.startswith(mark)), None)):
        raise NotText(f"is {named}, as its first bytes say, not UTF-8")
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        wanted = (encoding or "utf-8").upper()
        raise NotText(
            f"line {line:,}: byte {error.start:,} of the file (0x{data[error.start]:02x}) is not {wanted}"
        ) from error
    if 4 * text.count("\0") > len(text):
        raise NotText("every other character is NUL: it is UTF-16 or UTF-32 without a mark, or no text")
    return text.lstrip(MARK)


def read_text(place: Any, encoding: str | None = None) -> str:
    """The text of a file, a path of this machine or of the hub.

    Raises:
        UsageError: the file cannot be read, or is not text of this encoding: with line and byte.
    """
    try:
        return decoded(place.read_bytes(), encoding)
    except NotText as error:
        raise UsageError(f"{place}: {error}", HINT) from error
    except OSError as error:
        raise UsageError(f"{place}: {error.strerror}", "see that you may read it") from error


def lines(text: str) -> list[str]:
    r"""The lines of a text: they end with \n or \r\n, and with nothing else."""
    found = text.split("\n")
    if not found[-1]:
        found.pop()
    return [line.removesuffix("\r") for line in found]


def opened(place: Any, encoding: str | None = None) -> IO[str]:
    r"""A file of text to be read piece by piece; lines end at \n alone, an error comes where it stands."""
    file = place.open("rb")
    start = file.read(4)
    file.seek(0)
    if encoding is None and any(start.startswith(mark) for mark, _ in MARKS):
        encoding = "utf-8"  # the refusal of these bytes says what they are
    return io.TextIOWrapper(file, encoding or "utf-8-sig", "strict", newline="\n")


def refusal(place: Any, encoding: str | None) -> UsageError:
    """Why a file that broke off is no text, found by reading it whole."""
    try:
        read_text(place, encoding)
    except UsageError as error:
        return error
    return UsageError(f"{place}: changed while it was read", "the same command reads it again")


def split_of(prompt: str, val_fraction: float) -> Literal["train", "validation"]:
    """`val_fraction` in [0, 1) of all prompts go to validation; spellings of one prompt stand together."""
    digest = hashlib.sha256(b"split\0" + normalised(prompt).encode()).digest()
    return "validation" if int.from_bytes(digest[:8], "big") / 2**64 < val_fraction else "train"

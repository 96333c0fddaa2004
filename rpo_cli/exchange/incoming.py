"""What an importer hands to the line: one entry per row of the source, or why the row is no entry.

Everything in a source is untrusted: a path that stands in data leads to a regular file below the source's
own folder or to a rejected row, sizes are bounded before anything is read, and labels are checked.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from rpo_cli.errors import UsageError
from rpo_cli.exchange.hub_folder import HubPath
from rpo_cli.exchange.touched import state_of, touch_whole
from rpo_cli.pictures import MAX_BYTES
from rpo_cli.records import Flaw

Choice = Literal["a", "b", "tie"]
Place = Path | HubPath  # where a source is: on this machine, or on the hub, read where it lies
MAX_CHARACTERS = 10_000  # of a prompt, as for prompts from a file
PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Feedback:
    """What a person said about one picture, as a critique is kept."""

    text: str
    flaws: tuple[Flaw, ...]


@dataclass(frozen=True)
class Picture:
    """Encoded bytes, as they stand in the source, and what the source calls the picture and its maker."""

    data: bytes
    source_id: str | None = None
    model: str | None = None
    feedback: Feedback | None = None


@dataclass(frozen=True)
class Vote:
    """A judgement of two pictures of an entry, by place; `choice` None: asked, but no answer there."""

    a: int
    b: int
    choice: Choice | None
    source_id: str | None = None


@dataclass(frozen=True)
class Entry:
    """One row of a source: pictures of one prompt and how they were judged."""

    row: int
    prompt: str
    pictures: tuple[Picture, ...]
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True)
class Bad:
    """A row that cannot be taken, with one of a few words as the reason."""

    row: int
    reason: str
    detail: str


class BadRow(Exception):
    """Raised while a row is read; becomes a `Bad`, never a failure of the import."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Options:
    """How a source is to be read.

    Attributes:
        asked: the user named the format: what does not fit it is an error that says what is missing.
        split: only files of that split; None: those of "train" where there are any.
        images: folder of the pictures, for formats that come without them.
        column: the column of the prompt, where it is not found by its name.
    """

    asked: bool = False
    split: str | None = None
    images: Place | None = None
    column: str | None = None


@dataclass(frozen=True)
class Source:
    """An opened source, its schema checked.

    Attributes:
        files: the files that hold rows, in the order of their rows; each is told to `touched` when rows of
            it are read, else all of them count as read.
        names: what the rows are read from, row by row, where no file says which rows there are.
        judged_by: "human" where the format's labels are people's; "source" where nobody knows whose.
        read: first row → the entries from that row on, in order of their row.
        rows: how many there are; None where only reading them would tell.
        note: what a user should know of what is read.
    """

    root: Place
    files: tuple[Place, ...]
    judged_by: Literal["human", "source"]
    read: Callable[[int], Iterator[Entry | Bad]]
    rows: int | None = None
    license: str | None = None
    note: str = ""
    names: Sequence[str] = ()


def entries(rows: Iterator[tuple[int, Any]], make: Callable[[int, Any], Entry]) -> Iterator[Entry | Bad]:
    """Each (row number, raw row) as an entry; whatever is wrong with a row stays in that row."""
    for number, raw in rows:
        try:
            if isinstance(raw, BadRow):
                raise raw
            yield make(number, raw)
        except BadRow as bad:
            yield Bad(number, bad.reason, bad.detail)


def prompt_of(value: Any) -> str:
    """A prompt, trimmed.

    Raises:
        BadRow: no text, or more than 10,000 characters.
    """
    if not isinstance(value, str) or not value.strip():
        raise BadRow(
            "no_prompt", f"the prompt is {'empty' if isinstance(value, str) else repr(value)[:80]}"
        )
    text = value.strip()
    if len(text) > MAX_CHARACTERS:
        raise BadRow("long_prompt", f"{len(text):,} characters, more than {MAX_CHARACTERS:,}")
    if not text.isprintable() and "\0" in text:
        raise BadRow("no_prompt", "the prompt holds NUL")
    return text


def choice_of(first: Any, second: Any = None) -> Choice | None:
    """Labels of two sides (1/0 win, 0/1 loss, equal: tie) as a choice; None where there is no label.

    Raises:
        BadRow: a label that is no number in [0, 1].
    """
    a, b = _share(first), _share(second)
    if a is None and b is None:
        return None
    a, b = (1 - b if a is None and b is not None else a), (1 - a if b is None and a is not None else b)
    assert a is not None
    assert b is not None
    return "tie" if a == b else "a" if a > b else "b"


def _share(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadRow("bad_label", f"label {value!r:.80}") from error
    if math.isnan(number):
        return None
    if not 0 <= number <= 1:
        raise BadRow("bad_label", f"label {value!r:.80}, not in [0, 1]")
    return number


def encoded(value: Any, name: str) -> bytes:
    """The bytes of a picture column: raw, or the struct<bytes, path> of `datasets`' Image feature.

    Raises:
        BadRow: nothing there, or too large.
    """
    data = value.get("bytes") if isinstance(value, Mapping) else value
    if not isinstance(data, bytes) or not data:
        raise BadRow("missing_image", f"{name}: no bytes")
    return bounded(data, name)


def bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise BadRow("too_large", f"{name}: {len(data):,} bytes, more than {MAX_BYTES:,}")
    return data


def inside(root: Place, name: Any, *folders: str) -> Place:
    """The regular file that a name in data means, below `root` or below one of its `folders`.

    Raises:
        BadRow: an absolute name, a drive, "..", a NUL, a link that leads out, or no file at all.
    """
    if not isinstance(name, str) or not name:
        raise BadRow("missing_image", f"no file name but {name!r:.80}")
    parts = PureWindowsPath(name)  # knows both kinds of separator, drives and UNC names
    if "\0" in name or parts.drive or parts.root or ".." in parts.parts:
        raise BadRow("unsafe_path", f"{name[:200]!r} leads out of the source")
    home = root.resolve()
    for base in (home, *(home / folder for folder in folders)):
        place = base.joinpath(*parts.parts)
        try:
            if below(place.resolve(), home) is None:
                raise BadRow("unsafe_path", f"{name[:200]!r} is a link that leads out of the source")
            if place.is_file():
                return place
        except OSError as error:  # a name that is too long, a loop of links
            raise BadRow("missing_image", f"{name[:200]!r}: {error.strerror}") from error
    raise BadRow("missing_image", f"{name[:200]!r}: no such file in the source")


def ordered(places: Iterable[Place]) -> list[Place]:
    """In the order of their names, the same on the hub as on this machine."""
    return sorted(places, key=lambda place: place.parts)


def below(place: Place, root: Place) -> str | None:
    """The name of a place within a folder; None outside it."""
    if isinstance(place, HubPath) and isinstance(root, HubPath):
        inner, outer = place.path, root.path
        return str(inner.relative_to(outer)) if inner.is_relative_to(outer) else None
    if isinstance(place, Path) and isinstance(root, Path):
        return str(place.relative_to(root)) if place.is_relative_to(root) else None
    return None


def load(path: Place) -> bytes:
    """The bytes of a picture file, its size checked before it is read.

    Raises:
        BadRow: too large, or not readable.
    """
    try:
        status = path.stat()
        if status.st_size > MAX_BYTES:
            raise BadRow("too_large", f"{path.name}: {status.st_size:,} bytes, more than {MAX_BYTES:,}")
        state, data = state_of(path, status), path.read_bytes()
    except OSError as error:
        raise BadRow("missing_image", f"{path.name}: {error.strerror}") from error
    touch_whole(path, state, data)
    return data


def refuse(where: Place, missing: str, has: str, hint: str) -> UsageError:
    """The error of a source whose schema lacks something: what is missing, and what is there."""
    return UsageError(f"{where}: {missing}; it has: {has}", hint)

"""What an importer hands to the line: one entry per row of the source, or why the row is no entry.

Everything in a source is untrusted: a path that stands in data leads to a regular file below the source's
own folder or to a rejected row, sizes are bounded before anything is read, and labels are checked.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rpo_cli.errors import UsageError
from rpo_cli.exchange.places import Place, holds, meant, other_spelling, state_of, touch_whole
from rpo_cli.exchange.prompts import half_character, storable, trimmed, unfit
from rpo_cli.exchange.raw_rows import BadRow
from rpo_cli.pictures import ENDINGS, MAX_BYTES, OTHERS
from rpo_cli.records import Flaw
from rpo_cli.text import NotText, decoded, normalised

Choice = Literal["a", "b", "tie"]
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(//|[^,]*;base64,)")
# of files to look at as pictures: those that are not read are rejects that say so
PICTURES = (*ENDINGS, *OTHERS)


@dataclass(frozen=True)
class Feedback:
    """What a person said about one picture, as a critique is kept."""

    text: str
    flaws: tuple[Flaw, ...]


@dataclass(frozen=True)
class Picture:
    """Encoded bytes, as they stand in the source, and what the source calls the picture and its maker.

    `standing`: what was said of this picture alone, better ones higher; 1 and 0 for good and bad.
    `name`: of its file, for messages only.
    """

    data: bytes
    source_id: str | None = None
    model: str | None = None
    feedback: Feedback | None = None
    standing: float | None = None
    name: str | None = None


@dataclass(frozen=True)
class Vote:
    """A judgement of two pictures of an entry, by place; `choice` None: asked, but no answer there.

    Attributes:
        share: of the votes that prefer a, where the source tells it.
        rich: JSON of what stands beside the judgement in a dataset of rpo.
    """

    a: int
    b: int
    choice: Choice | None
    source_id: str | None = None
    share: float | None = None
    rich: str | None = None


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


@dataclass(frozen=True)
class Options:
    """How a source is to be read.

    Attributes:
        asked: the user named the format: what does not fit it is an error that says what is missing.
        split: only files of that split; None: those of "train" where there are any.
        images: folder of the pictures, for formats that come without them.
        column: the column of the prompt, where it is not found by its name.
        columns: role → column, for tables that name things their own way (`layouts.ROLES`).
        encoding, delimiter, quoting: of text and tables; None: UTF-8, and found by the rule.
    """

    asked: bool = False
    split: str | None = None
    images: Place | None = None
    column: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    delimiter: str | None = None
    quoting: Literal["rfc4180", "none"] | None = None


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
        unused: columns that no entry is made of, told once the rows are read.
        left: what lay beside the rows and was not read, told once they are read.
    """

    root: Place
    files: tuple[Place, ...]
    judged_by: Literal["human", "source"]
    read: Callable[[int], Iterator[Entry | Bad]]
    rows: int | None = None
    license: str | None = None
    note: str = ""
    names: Sequence[str] = ()
    unused: Callable[[], list[str]] = list
    left: Callable[[], list[str]] = list


def entries(
    rows: Iterator[tuple[int, Any]],
    make: Callable[[int, Any], Entry],
    where: Callable[[int], str] | None = None,
) -> Iterator[Entry | Bad]:
    """Each (row number, raw row) as an entry; whatever is wrong with a row stays in that row.

    Args:
        where: the file and line of a row, put before what is wrong with it.
    """
    for number, raw in rows:
        try:
            for value in (raw, *(raw.values() if isinstance(raw, dict) else ())):
                if isinstance(value, BadRow):
                    raise value
            entry = make(number, raw)
            _storable(entry)
        except BadRow as bad:
            place = f"{where(number)}: " if where else ""
            yield Bad(number, bad.reason, storable(place + bad.detail))
        else:
            yield entry


def _storable(entry: Entry) -> None:
    told = [text for one in entry.pictures for text in (one.source_id, one.model) if text]
    told += [vote.source_id for vote in entry.votes if vote.source_id]
    if wrong := next((wrong for text in told if (wrong := half_character(text))), None):
        raise BadRow("bad_text", f"a name {wrong}")


def text_of(data: bytes, name: str, encoding: str | None = None) -> str:
    """The text of a caption's file.

    Raises:
        BadRow: it is not text of this encoding.
    """
    try:
        return decoded(data, encoding)
    except NotText as error:
        raise BadRow("bad_text", f"{name}: {error}") from error


def prompt_of(value: Any) -> str:
    """A prompt, trimmed.

    Raises:
        BadRow: no text, one that cannot be stored, or more than 10,000 characters.
    """
    if (wrong := unfit(value)) is not None:
        raise BadRow(*wrong)
    text = trimmed(value)
    if not normalised(text):
        raise BadRow("no_prompt", "the prompt is empty")
    return text


def encoded(value: Any, name: str, root: Place | None = None, within: Place | None = None) -> bytes:
    """The picture that a value means: bytes, or the struct<bytes, path> of `datasets`' Image feature.

    Args:
        root: folder that a path without bytes is relative to; None: paths are not read.
        within: the source, where it is more than that folder.

    Raises:
        BadRow: nothing there, too large, an address, or a path that leads to no file of the source.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes) and value:
        return bounded(value, name)
    if isinstance(value, str) and ADDRESS.match(value):
        raise BadRow("url", f"{value[:200]!r} is an address; nothing is fetched: download it first")
    if isinstance(value, str) and value and root is not None:
        return load(inside(root, value, within=within))
    raise BadRow("missing_image", f"{name}: no bytes" + " and no path" * (root is not None))


def bounded(data: bytes, name: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise BadRow("too_large", f"{name}: {len(data):,} bytes, more than {MAX_BYTES:,}")
    return data


def inside(root: Place, name: Any, *folders: str, within: Place | None = None) -> Place:
    """The regular file that a name in data means, below `root` or below one of its `folders`.

    Args:
        name: relative to `root`, or absolute; "." and ".." count, both kinds of separator do.
        within: what must hold the file, where that is more than `root`: the source as the user named it.

    Raises:
        BadRow: a name or a link that leads out of the source, a drive, a NUL, or no file at all.
    """
    if not isinstance(name, str) or not name:
        raise BadRow("missing_image", f"no file name but {name!r:.80}")
    told, home, base = repr(name[:200]), (within or root).resolve(), root.resolve()
    places = meant(base, home, name, folders)
    if isinstance(places, str):
        raise BadRow("unsafe_path", f"{told} {places}")
    for place in places:
        try:
            if not holds(home, place.resolve()):
                raise BadRow("unsafe_path", f"{told} is a link that leads out of the source")
            if place.is_file():
                return place
            if (spelt := other_spelling(place, home)) is not None and holds(home, spelt.resolve()):
                return spelt
        except OSError as error:  # a name that is too long, a loop of links
            raise BadRow("missing_image", f"{told}: {error.strerror}") from error
        except UnicodeEncodeError as error:
            raise BadRow("bad_text", f"{told} {half_character(name)}") from error
    raise BadRow("missing_image", f"{told}: no such file in the source")


def own(place: Place, root: Place) -> Place:
    """A file that was found in a source.

    Raises:
        BadRow: it is a link that leads out of the source.
    """
    if not holds(root.resolve(), place.resolve()):
        raise BadRow("unsafe_path", f"{place.name[:200]!r} is a link that leads out of the source")
    return place


def ordered(places: Iterable[Place]) -> list[Place]:
    """In the order of their names, the same on the hub as on this machine."""
    return sorted(places, key=lambda place: place.parts)


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

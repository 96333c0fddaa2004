"""WebDataset in: tar files whose members of one key stand side by side. Names are never used as paths."""

import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rpo_cli.errors import RpoError
from rpo_cli.exchange.importers.folders import LOSERS, METADATA, WINNERS
from rpo_cli.exchange.importers.layouts import Layout, coded, layout_of, to_entry
from rpo_cli.exchange.incoming import (
    PICTURES,
    Entry,
    Options,
    Source,
    encoded,
    entries,
    ordered,
    refuse,
    text_of,
)
from rpo_cli.exchange.places import Place, touch
from rpo_cli.exchange.raw_rows import BadRow, parsed
from rpo_cli.exchange.unpack import TARS
from rpo_cli.pictures import ENDINGS, MAX_BYTES, OTHERS

HINT = "check the folder, or name another --format; see `rpo list importers`"
MAX_TEXT = 2**20
LOOKED_AT = 20  # samples that are looked at to see what their columns are
LISTED = 10_000  # members that are looked at to see what a tar holds
SEEN = tuple(ending.lstrip(".") for ending in PICTURES)
READ = ("txt", "json", "cls", *SEEN)  # nothing else is looked at; a pickle is never opened


def open_webdataset(path: Place, options: Options) -> Source | None:
    """WebDataset tars: KEY.jpg_0.jpg, KEY.jpg_1.jpg, KEY.original_prompt.txt, KEY.label_0.txt; or KEY.jpg.

    Source: https://github.com/webdataset/webdataset
    """
    files = [path] if path.is_file() else ordered(path.rglob("*.tar*"))
    files = [file for file in files if file.name.lower().endswith(TARS)]
    if options.split:
        files = [file for file in files if options.split in file.name]
    if not files:
        if options.asked:
            raise refuse(path, "no .tar files", "others", HINT)
        return None
    left: Counter[str] = Counter()
    seen: dict[str, None] = {}
    layout = _check(files[0], options)
    if layout is None:
        return None

    def sample(row: int, raw: dict[str, Any]) -> Entry:
        seen.update(dict.fromkeys(raw))
        own = layout_of(*_columns(raw), options)
        if own.missing:
            raise BadRow("missing_column", f"no {', '.join(own.missing)}; it has {', '.join(raw)}"[:300])
        return to_entry(replace(own, code=layout.code), encoded, row, raw)

    return Source(
        root=path if path.is_dir() else path.parent,
        files=tuple(files),
        judged_by="source",
        read=lambda start: entries(_samples(files, start, options.encoding, left), sample),
        unused=lambda: layout.unused(seen),
        left=lambda: [f"{count:,} {name} were left out" for name, count in sorted(left.items())],
    )


def _columns(raw: dict[str, Any]) -> tuple[list[str], list[str]]:
    pictures = [name for name, value in raw.items() if isinstance(value, dict)]
    return pictures, [name for name in raw if name not in pictures]


def _check(file: Place, options: Options) -> Layout | None:
    """What the first sample with a picture says the columns are; None where nobody has said it is one."""
    if not options.asked and _holds_folders(file):
        return None
    has = "nothing"
    for _, raw in islice(_samples([file], 0, options.encoding, Counter()), LOOKED_AT):
        if isinstance(raw, BadRow):
            continue
        layout = layout_of(*_columns(raw), options)
        if not layout.missing:
            return coded(layout, partial(_values, file, options))[0]
        has = ", ".join(raw) or has
    if options.asked or not isinstance(file, Path):
        raise refuse(file, "no sample of it has a prompt and a picture", has, HINT)
    return None


def _values(file: Place, options: Options, column: str) -> Iterator[Any]:
    for _, row in _samples([file], 0, options.encoding, Counter()):
        if isinstance(row, dict):
            yield row.get(column)


def _holds_folders(file: Place) -> bool:
    """Whether a tar of this machine is a packed folder: a table, winners and losers, or samples torn apart.

    What stands in no order (`tar` takes a folder's files as they come) is read as a folder, unpacked.
    """
    if not isinstance(file, Path):
        return False
    sides, keys, last = set(), set[str](), ""
    with suppress(tarfile.TarError, OSError, EOFError), tarfile.open(file, "r:*") as tar:
        for member in islice(tar, LISTED):
            folder, _, name = member.name.rpartition("/")
            stem, _, rest = name.partition(".")
            if name in METADATA:
                return True
            for side, names in (("w", WINNERS), ("l", LOSERS)):
                sides |= {side} if {*folder.split("/")} & {*names} else set()
            key = f"{folder}/{stem}"
            if not member.isdir() and not _stray(member, rest):
                if key != last and key in keys:
                    return True
                keys.add(key)
                last = key
    return len(sides) == 2


def _samples(
    files: list[Place], start: int, encoding: str | None, left: Counter[str]
) -> Iterator[tuple[int, Any]]:
    """(number, sample as name → value) from number `start` on; members before it are not read.

    Args:
        left: counts the endings of members that are not read.
    """
    number = 0
    for path in files:
        touch(path)
        mode: Any = "r:" if path.name.lower().endswith(".tar") else "r:*"
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode=mode) as tar:
                for members in _groups(tar, left):
                    if number >= start:
                        yield number, _sample(tar, members, encoding)
                    number += 1
        except (tarfile.TarError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            raise RpoError(
                f"{path}: breaks off in sample {number:,}: {error}", "download it again; the rest is kept"
            ) from error


def _groups(tar: tarfile.TarFile, left: Counter[str]) -> Iterator[list[tuple[str, tarfile.TarInfo]]]:
    """Neighbouring members of one key, the name up to the first dot of the file, as (rest, member).

    What is no part of a sample (hidden files, other endings) stands between no two members of one.
    """
    key, group = "", list[tuple[str, tarfile.TarInfo]]()
    for member in tar:
        if member.isdir():
            continue
        folder, _, file = member.name.rpartition("/")
        stem, _, rest = file.partition(".")
        if stray := _stray(member, rest):
            left[stray] += 1
            continue
        if group and f"{folder}/{stem}" != key:
            yield from _whole(group, left)
            group = []
        key = f"{folder}/{stem}"
        group.append((rest, member))
    yield from _whole(group, left)


def _stray(member: tarfile.TarInfo, rest: str) -> str:
    """What a member is that is no part of a sample; "" for one that is."""
    hidden = any(part.startswith((".", "__MACOSX")) for part in member.name.removeprefix("./").split("/"))
    if hidden or not member.isfile():
        return "hidden files and links"
    ending = rest.rpartition(".")[2].lower()
    return (
        ""
        if ending in READ
        else f"files of other endings (.{ending})"
        if ending
        else "files without an ending"
    )


def _whole(
    group: list[tuple[str, tarfile.TarInfo]], left: Counter[str]
) -> Iterator[list[tuple[str, tarfile.TarInfo]]]:
    """The group, if a picture is in it."""
    if any(rest.rpartition(".")[2].lower() in SEEN for rest, _ in group):
        yield group
    elif group:
        left["names without a picture"] += 1


def _sample(tar: tarfile.TarFile, members: list[tuple[str, tarfile.TarInfo]], encoding: str | None) -> Any:
    found: dict[str, Any] = {}
    split = [(rest.rpartition("."), member) for rest, member in members]
    parted = [(name, ending.lower(), member) for (name, _, ending), member in split]
    shown = {name for name, ending, _ in parted if f".{ending}" in ENDINGS}
    try:
        for name, ending, member in parted:
            # a drawing or video counts where no picture stands in its place, to be told as a reject
            if f".{ending}" in OTHERS and name in shown:
                continue
            for column, value in _value(tar, member, name, ending, encoding).items():
                if column in found:
                    raise BadRow(
                        "doubled_name", f"{member.name[:200]!r}: '{column}' stands twice in its sample"
                    )
                found[column] = value
    except BadRow as bad:
        return bad
    return found


def _value(
    tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, ending: str, encoding: str | None
) -> dict[str, Any]:
    """One member as columns; the `txt` of a sample is its caption, the `json` of one is many columns."""
    picture = ending in SEEN
    if member.size > (MAX_BYTES if picture else MAX_TEXT):
        raise BadRow("too_large", f"{member.name[:200]!r}: {member.size:,} bytes")
    file = tar.extractfile(member)
    data = file.read() if file else b""
    if picture:
        return {name or "jpg": {"bytes": data, "path": member.name}}
    text = text_of(data, member.name[:200], encoding)
    if ending == "json" and not name:
        return _json(text)
    return {name or ("caption" if ending == "txt" else ending): text}


def _json(text: str) -> dict[str, Any]:
    try:
        found = parsed(text)
    except ValueError as error:
        raise BadRow("bad_json", str(error)[:200]) from error
    if not isinstance(found, dict):
        raise BadRow("bad_json", "not a JSON object")
    return found

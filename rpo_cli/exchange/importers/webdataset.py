"""WebDataset in: tar files whose members of one key stand side by side. Names are never used as paths."""

import json
import tarfile
from collections.abc import Iterator
from typing import Any

from rpo_cli.errors import RpoError
from rpo_cli.exchange.importers.mapped import layout_of, to_entry
from rpo_cli.exchange.incoming import (
    PICTURES,
    BadRow,
    Entry,
    Options,
    Place,
    Source,
    encoded,
    entries,
    ordered,
    refuse,
)
from rpo_cli.exchange.touched import touch
from rpo_cli.pictures import MAX_BYTES

HINT = "check the folder, or name another --format; see `rpo list importers`"
MAX_TEXT = 2**20
ENDINGS = tuple(ending.lstrip(".") for ending in PICTURES)
READ = ("txt", "json", "cls", *ENDINGS)  # nothing else is looked at; a pickle is never opened


def open_webdataset(path: Place, options: Options) -> Source | None:
    """WebDataset tars: KEY.jpg_0.jpg, KEY.jpg_1.jpg, KEY.original_prompt.txt, KEY.label_0.txt; or KEY.jpg.

    Source: https://github.com/webdataset/webdataset
    """
    files = [path] if path.is_file() else ordered(path.rglob("*.tar"))
    files = [file for file in files if file.suffix == ".tar"]
    if options.split:
        files = [file for file in files if options.split in file.name]
    if not files:
        if options.asked:
            raise refuse(path, "no .tar files", "others", HINT)
        return None
    _check(files[0], options)

    def sample(row: int, raw: dict[str, Any]) -> Entry:
        layout = layout_of(*_columns(raw), options.column)
        if layout.missing:
            raise BadRow("missing_column", f"no {', '.join(layout.missing)}; it has {', '.join(raw)}"[:300])
        return to_entry(layout, encoded, row, raw)

    return Source(
        root=path if path.is_dir() else path.parent,
        files=tuple(files),
        judged_by="source",
        read=lambda start: entries(_samples(files, start), sample),
    )


def _columns(raw: dict[str, Any]) -> tuple[list[str], list[str]]:
    pictures = [name for name, value in raw.items() if isinstance(value, bytes)]
    return pictures, [name for name in raw if name not in pictures]


def _check(file: Place, options: Options) -> None:
    """The first sample says what the columns are."""
    for _, raw in _samples([file], 0):
        if isinstance(raw, BadRow):
            continue
        layout = layout_of(*_columns(raw), options.column)
        if layout.missing:
            raise refuse(file, f"its samples have no {', '.join(layout.missing)}", ", ".join(raw), HINT)
        return


def _samples(files: list[Place], start: int) -> Iterator[tuple[int, Any]]:
    """(number, sample as name → value) from number `start` on; members before it are not read."""
    number = 0
    for path in files:
        touch(path)
        try:
            with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for members in _groups(tar):
                    if number >= start:
                        yield number, _sample(tar, members)
                    number += 1
        except (tarfile.TarError, OSError, EOFError) as error:
            raise RpoError(
                f"{path}: breaks off in sample {number:,}: {error}", "download it again; the rest is kept"
            ) from error


def _groups(tar: tarfile.TarFile) -> Iterator[list[tuple[str, tarfile.TarInfo]]]:
    """Neighbouring members of one key, the name up to the first dot of the file, as (rest, member)."""
    key, group = "", list[tuple[str, tarfile.TarInfo]]()
    for member in tar:
        if not member.isfile():
            continue
        folder, _, file = member.name.rpartition("/")
        stem, _, rest = file.partition(".")
        if group and f"{folder}/{stem}" != key:
            yield group
            group = []
        key = f"{folder}/{stem}"
        group.append((rest, member))
    if group:
        yield group


def _sample(tar: tarfile.TarFile, members: list[tuple[str, tarfile.TarInfo]]) -> Any:
    found: dict[str, Any] = {}
    try:
        for rest, member in members:
            name, _, ending = rest.rpartition(".")
            if ending.lower() in READ:
                found |= _value(tar, member, name, ending.lower())
    except BadRow as bad:
        return bad
    return found


def _value(tar: tarfile.TarFile, member: tarfile.TarInfo, name: str, ending: str) -> dict[str, Any]:
    """One member as columns; the `txt` of a sample is its caption, the `json` of one is many columns."""
    picture = ending in ENDINGS
    if member.size > (MAX_BYTES if picture else MAX_TEXT):
        raise BadRow("too_large", f"{member.name[:200]!r}: {member.size:,} bytes")
    file = tar.extractfile(member)
    data = file.read() if file else b""
    if picture:
        return {name or "jpg": data}
    text = data.decode("utf-8", "replace")
    if ending == "json" and not name:
        return _json(text)
    return {name or "caption": text}


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise BadRow("bad_json", str(error)[:200]) from error
    if not isinstance(found, dict):
        raise BadRow("bad_json", "not a JSON object")
    return {key: value for key, value in found.items() if isinstance(value, str | int | float)}

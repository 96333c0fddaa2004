"""The folder of a report: it appears whole or stays as it was, and never takes the place of other files."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rpo_cli.errors import UsageError, disk_errors
from rpo_cli.files import draft_folder

INDEX = "index.html"
MARK = b'<meta name="generator" content="rpo report">'
OURS = re.compile(r"(index|[a-z]+-\d+)\.html|pictures/[0-9a-f]{32}\.png")
DRAFT = ".rpo-draft-"


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A folder to write into, inside the report's own: at the end its files take their places there.

    Until then the report that was there stays, also after a kill or on a full disk. The move takes the old
    first page away first and puts the new one there last, so that a report that has one is whole.

    Raises:
        UsageError: the folder holds a file that is not a report's; its name is told.
        StorageError: something cannot be written.
    """
    refuse_foreign(folder)
    with disk_errors(str(folder)), draft_folder(folder, DRAFT) as draft:
        yield draft
        _move(draft, folder)


def _move(draft: Path, folder: Path) -> None:
    (folder / INDEX).unlink(missing_ok=True)
    names = sorted(_files(draft), key=lambda name: name == INDEX)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (draft / name).replace(folder / name)
    for name in set(_files(folder)) - set(names):
        (folder / name).unlink(missing_ok=True)


def _files(folder: Path) -> list[str]:
    """Every file under a folder, relative to it, but those of drafts."""
    names = (file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir())
    return sorted(name for name in names if not name.startswith(DRAFT))


def refuse_foreign(folder: Path) -> None:
    """A report replaces a report, never somebody's own files.

    Raises:
        UsageError: names the first file that is not a report's.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file", "name an empty folder with --out")
    foreign = [name for name in _files(folder) if not OURS.fullmatch(name)]
    index = folder / INDEX
    if not foreign and index.is_file() and MARK not in index.read_bytes():
        foreign = [INDEX]
    if foreign:
        raise UsageError(
            f"{folder}: holds {foreign[0]}, which is no file of a report", "name an empty folder with --out"
        )


def write(folder: Path, name: str, data: bytes) -> str:
    """Write a file and return its name. Not synced to the disk: a report can always be made again."""
    file = folder / name
    with disk_errors(str(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return name

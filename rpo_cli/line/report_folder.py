"""The folder of a report: it appears whole or stays as it was, and never takes the place of other files."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rpo_cli.errors import UsageError
from rpo_cli.parts import told

INDEX = "index.html"
MARK = b'<meta name="generator" content="rpo report">'
OURS = re.compile(r"(index|[a-z]+-\d+)\.html|pictures/[0-9a-f]{32}\.png")
DRAFT = re.compile(r"rpo-(?:draft|old)-(\d+)")


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """A folder to write into; it takes its name at the end, and the report that was there is deleted.

    A kill or a full disk leaves the report that was there. What killed ones have left is cleared here.

    Raises:
        UsageError: the folder holds a file that is not a report's; its name is told.
        StorageError: something cannot be written.
    """
    refuse_foreign(folder)
    folder = folder.resolve()
    draft, old = (folder.with_name(f".{folder.name}.rpo-{what}-{os.getpid()}") for what in ("draft", "old"))
    with told(str(folder)):
        _clear(folder)
        draft.mkdir(parents=True)
        try:
            yield draft
            if folder.exists():
                folder.rename(old)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            shutil.rmtree(old, ignore_errors=True)


def _clear(folder: Path) -> None:
    """Delete drafts whose process has ended, and our own of before."""
    start = f".{folder.name}."
    for path in folder.parent.glob(f"{start}rpo-*-*") if folder.parent.is_dir() else ():
        named = DRAFT.fullmatch(path.name.removeprefix(start))
        if named and not (int(named[1]) != os.getpid() and _alive(int(named[1]))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:  # it lives, under another user
        return True
    except OSError:
        return False
    return True


def refuse_foreign(folder: Path) -> None:
    """A report replaces a report, never somebody's own files.

    Raises:
        UsageError: names the first file that is not a report's.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file", "name an empty folder with --out")
    names = sorted(f.relative_to(folder).as_posix() for f in folder.rglob("*") if not f.is_dir())
    foreign = [name for name in names if not OURS.fullmatch(name)]
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
    with told(str(file)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return name

"""Archives as folders: .zip and tar files, unpacked beside the run while they are imported.

Nothing in an archive is trusted: names that lead out, links and devices are left out, sizes are bounded by
what is really unpacked, not by what a header says.
"""

import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EEXIST, EILSEQ, EISDIR, ENAMETOOLONG, ENOTDIR
from pathlib import Path, PureWindowsPath
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import IO

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.pictures import MAX_BYTES

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ENDINGS = (".zip", *TARS)
PIECE = 2**20
MOST = 2_000_000  # files of one archive
# bytes that any archive may unpack to, and how many more for each of its own: pictures hardly shrink
ALWAYS, RATIO = 2**30, 100
PREFIX = ".unpacked-"
UTF8 = 0x800  # the flag of a name that says so
# a name is too long, a file where a folder is wanted or the other way round, bytes that no name may have
NAMES = (ENAMETOOLONG, ENOTDIR, EEXIST, EISDIR, EILSEQ)


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive that can be unpacked."""
    return path.is_file() and path.name.lower().endswith(ENDINGS)


@contextmanager
def unpacked(path: Path, beside: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder with the files of an archive, and what was left out; gone when the block ends.

    Args:
        beside: the folder on whose disk it is unpacked.

    Raises:
        UsageError: no archive of its kind, one that needs a password, or one that unpacks to too much.
        RpoError: it breaks off, or the disk is full.
    """
    beside.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=PREFIX, dir=beside) as name:
        folder = Path(name)
        try:
            members = _zipped(path) if path.name.lower().endswith(".zip") else _tarred(path)
            left = _unpack(path, members, folder)
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise UsageError(f"{path}: no readable archive: {error}", "download it again") from error
        except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
            raise RpoError(
                f"{path}: cannot be unpacked: {error}", "unpack it yourself and import the folder"
            ) from error
        yield _top(folder), [f"{count:,} {what}" for what, count in left.items()]


def remove_leftovers(beside: Path) -> None:
    """Take away what killed commands have unpacked; whoever calls holds the lock of unpacking there."""
    for folder in beside.glob(f"{PREFIX}*"):
        rmtree(folder, ignore_errors=True)


def _unpack(path: Path, members: Iterator[tuple[str, IO[bytes] | None]], folder: Path) -> Counter[str]:
    """Write the members; returns what was left out or replaced, and how often."""
    left: Counter[str] = Counter()
    room = ALWAYS + RATIO * path.stat().st_size
    for inside, file in members:
        place = _place(folder, inside)
        if place is None or file is None:
            left["entries that are links, devices or lead out were left out"] += 1
            continue
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            left["files replaced others of their name, which stood before them"] += place.is_file()
            size = _write(place, file, min(MAX_BYTES, room))
        except OSError as error:
            if error.errno not in NAMES:
                raise
            left["files whose names no file can have here were left out"] += 1
            continue
        room -= size
        if room < 0:
            raise UsageError(
                f"{path}: unpacks to more than {ALWAYS + RATIO * path.stat().st_size:,} bytes",
                "where that is meant, unpack it yourself and import the folder",
            )
        if size > MAX_BYTES:
            place.unlink()
            left[f"files of more than {MAX_BYTES:,} bytes were left out"] += 1
    return +left


def _top(folder: Path) -> Path:
    """The one folder that holds all, where there is one."""
    inside = [item for item in folder.iterdir() if not item.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _zipped(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _few(path, len(infos))
        for info in infos:
            name = _name(info)
            if name.endswith(("/", "\\")):
                continue
            kind = info.external_attr >> 28  # of Unix modes; 0 where none was stored
            if kind not in (0, 8):
                yield name, None
                continue
            with archive.open(info) as file:
                yield name, file


def _name(info: zipfile.ZipInfo) -> str:
    """A member's name; of one that does not say its encoding UTF-8 where it is that, as macOS writes it."""
    if info.flag_bits & UTF8:
        return info.filename
    try:
        return info.filename.encode("cp437").decode()
    except UnicodeError:
        return info.filename


def _tarred(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with tarfile.open(path, "r:*") as archive:
        for number, member in enumerate(archive):
            _few(path, number)
            if not member.isdir():
                yield member.name, archive.extractfile(member) if member.isfile() else None


def _few(path: Path, count: int) -> None:
    if count > MOST:
        raise UsageError(f"{path}: more than {MOST:,} files", "unpack it yourself and import the folder")


def _place(folder: Path, name: str) -> Path | None:
    """Where a member goes; None for a name that leads out."""
    parts = PureWindowsPath(name)
    if "\0" in name or parts.drive or parts.root or ".." in parts.parts or not parts.parts:
        return None
    return folder.joinpath(*parts.parts)


def _write(place: Path, file: IO[bytes], most: int) -> int:
    """Copy a member; returns its bytes, or a number above `most` as soon as there are more."""
    size = 0
    with place.open("wb") as out:
        while size <= most and (data := file.read(PIECE)):
            size += out.write(data)
    return size

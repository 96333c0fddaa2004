"""Archives as folders: .zip and tar files, unpacked beside the run while they are imported.

Nothing in an archive is trusted: names that lead out, links and devices are left out, sizes are bounded by
what is really unpacked, not by what a header says.
"""

import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import IO

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.pictures import MAX_BYTES

TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
ENDINGS = (".zip", *TARS)
PIECE = 2**20
MOST = 2_000_000  # files of one archive


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive that can be unpacked."""
    return path.is_file() and path.name.lower().endswith(ENDINGS)


@contextmanager
def unpacked(path: Path, beside: Path) -> Iterator[tuple[Path, list[str]]]:
    """A folder with the files of an archive, and what was left out; gone when the block ends.

    Args:
        beside: the folder on whose disk it is unpacked.

    Raises:
        UsageError: no archive of its kind, or one that needs a password.
        RpoError: it breaks off, or the disk is full.
    """
    beside.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".unpacked-", dir=beside) as name:
        folder = Path(name)
        left: dict[str, int] = {}
        try:
            members = _zipped(path) if path.name.lower().endswith(".zip") else _tarred(path)
            for inside, file in members:
                place = _place(folder, inside)
                if place is None or file is None:
                    reason = "entries that are links, devices or lead out"
                    left[reason] = left.get(reason, 0) + 1
                elif not _write(place, file):
                    reason = f"files of more than {MAX_BYTES:,} bytes"
                    left[reason] = left.get(reason, 0) + 1
        except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise UsageError(f"{path}: no readable archive: {error}", "download it again") from error
        except (OSError, RuntimeError, ValueError, NotImplementedError) as error:
            raise RpoError(
                f"{path}: cannot be unpacked: {error}", "unpack it yourself and import the folder"
            ) from error
        yield _top(folder), [f"{count:,} {reason} were left out" for reason, count in left.items()]


def _top(folder: Path) -> Path:
    """The one folder that holds all, where there is one."""
    inside = [item for item in folder.iterdir() if not item.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _zipped(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        _few(path, len(infos))
        for info in infos:
            if info.is_dir():
                continue
            kind = info.external_attr >> 28  # of Unix modes; 0 where none was stored
            if kind not in (0, 8):
                yield info.filename, None
                continue
            with archive.open(info) as file:
                yield info.filename, file


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


def _write(place: Path, file: IO[bytes]) -> bool:
    """Copy a member; False when it is too large for a picture or text."""
    place.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with place.open("wb") as out:
        while size <= MAX_BYTES and (data := file.read(PIECE)):
            size += out.write(data)
    if size > MAX_BYTES:
        place.unlink()
    return size <= MAX_BYTES

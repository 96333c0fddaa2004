"""Immutable files on a local disk or an object store: whole or absent, never half."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from rpo_cli.errors import StorageError

TEMPORARY = ".rpo-tmp-"
_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again; nothing is lost"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EACCES: ("no permission to write", "choose a directory you may write to, or change its mode"),
    errno.EPERM: ("no permission to write", "choose a directory you may write to, or change its mode"),
    errno.EROFS: ("the file system is read-only", "choose another directory"),
    errno.ENOTDIR: ("a part of the path is a file", "choose another directory"),
}


@dataclass(frozen=True)
class Files:
    """A folder on any file system that fsspec knows; `local` is its path when it is on this machine."""

    system: Any
    root: str
    local: Path | None

    @classmethod
    def at(cls, url: str | Path) -> "Files":
        system, root = fsspec.core.url_to_fs(str(url))
        local = Path(root) if "file" in _protocols(system) else None
        return cls(system, root.rstrip("/"), local)

    def join(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        return bool(self.system.exists(self.join(name)))

    def find(self, folder: str, suffix: str) -> dict[str, int]:
        """name relative to the root → size in bytes, of every finished file under a folder, sorted."""
        listing = self.system.find(self.join(folder), detail=True) if self.exists(folder) else {}
        names = {
            path[len(self.root) + 1 :] if path.startswith(self.root) else path: info
            for path, info in listing.items()
        }
        return {
            name: int(info["size"] or 0)
            for name, info in sorted(names.items())
            if name.endswith(suffix) and TEMPORARY not in name
        }

    def open(self, name: str) -> Any:
        return self.system.open(self.join(name), "rb")

    def read(self, name: str) -> bytes:
        return bytes(self.system.cat_file(self.join(name)))

    def delete(self, name: str) -> None:
        if self.exists(name):
            self.system.rm_file(self.join(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file under its final name in one step.

        Local: temporary name, fsync, rename, fsync of the folder. Object store: one PUT.

        Raises:
            StorageError: disk full, no permission, read-only; the temporary file is gone.
        """
        with told(self.join(name)):
            if self.local is None:
                self.system.pipe_file(self.join(name), data)
            else:
                _write_local(self.local / name, data)


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f"{TEMPORARY}{os.getpid()}-{path.name}"
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn the errors of a disk into two lines for a person."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        reason, hint = _REASONS[error.errno]
        raise StorageError(f"{where}: {reason}", hint) from error

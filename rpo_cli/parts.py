"""Immutable files on a local disk or an object store: whole or absent, never half."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from pydantic import ValidationError

from rpo_cli.drafts import TEMPORARY, write_whole
from rpo_cli.errors import MissingDependency, RpoError, StorageError, UsageError, nearest

_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again; nothing is lost"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EACCES: ("no permission to write", "choose a directory you may write to, or change its mode"),
    errno.EPERM: ("no permission to write", "choose a directory you may write to, or change its mode"),
    errno.EROFS: ("the file system is read-only", "choose another directory"),
    errno.ENOTDIR: ("a part of the path is a file", "choose another directory"),
    errno.EEXIST: (
        "a file stands where a directory is needed",
        "move it away, or choose another directory",
    ),
}
_ANOTHER = "see that the disk is sound, then run the same command again: what is committed is whole"


@dataclass(frozen=True)
class Files:
    """A folder on any file system that fsspec knows; `local` is its path when it is on this machine."""

    system: Any
    root: str
    local: Path | None

    @classmethod
    def at(cls, url: str | Path) -> "Files":
        """The folder at a local path or fsspec URL; nothing is touched yet.

        Raises:
            UsageError: no such kind of URL.
            MissingDependency: the package for this kind of URL is not installed.
        """
        try:
            system, root = fsspec.core.url_to_fs(str(url))
        except ValueError as error:
            kinds = fsspec.available_protocols()
            close = nearest(str(url).partition(":")[0], kinds)
            raise UsageError(
                f"{url}: {error}{close}", "give a directory, or a URL such as s3://"
            ) from error
        except ImportError as error:
            raise MissingDependency(f"{url}: no support for this kind of URL", str(error)) from error
        local = Path(root) if "file" in _protocols(system) else None
        return cls(system, root.rstrip("/"), local)

    def join(self, name: str) -> str:
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        return bool(self.system.exists(self.join(name)))

    def find(self, folder: str, suffix: str) -> dict[str, int]:
        """name relative to the root → size in bytes, of every finished file under a folder, sorted."""
        return {
            name: size
            for name, size in self._list(folder).items()
            if name.endswith(suffix) and TEMPORARY not in name
        }

    def leftovers(self, folder: str) -> list[str]:
        """Temporary files that killed processes have left under a folder, or that one is writing now."""
        return [name for name in self._list(folder) if TEMPORARY in name]

    def _list(self, folder: str) -> dict[str, int]:
        listing = self.system.find(self.join(folder), detail=True)
        return {
            path[len(self.root) + 1 :]: int(info["size"] or 0) for path, info in sorted(listing.items())
        }

    def source(self, name: str) -> Any:
        """What pyarrow reads a file from: a local path, which is quicker, or an open file."""
        return self.join(name) if self.local is not None else self.system.open(self.join(name), "rb")

    def read(self, name: str) -> bytes:
        return bytes(self.system.cat_file(self.join(name)))

    def delete(self, name: str) -> None:
        """Delete a file; one that is gone already is no error."""
        with told(self.join(name)), suppress(FileNotFoundError):
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
                write_whole(self.local / name, data)


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


@contextmanager
def told(where: str) -> Iterator[None]:
    """Turn the errors of a disk into two lines for a person."""
    try:
        yield
    except OSError as error:
        if error.errno is None:  # not the system's word: some library's own error
            raise
        reason, hint = _REASONS.get(error.errno, (os.strerror(error.errno), _ANOTHER))
        raise StorageError(f"{where}: {reason}", hint) from error


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Turn what goes wrong in reading a part into two lines that name the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise RpoError(
            f"{where}: gone while it was read: another rpo has tidied this run", "run the command again"
        ) from error
    except (pa.ArrowException, OSError, ValidationError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise RpoError(f"{where}: {os.strerror(error.errno)}", "see that you may read it") from error
        raise RpoError(
            f"{where}: not a whole part of this table: {str(error).splitlines()[0]}",
            "delete this file and run the command again: it makes the missing rows",
        ) from error

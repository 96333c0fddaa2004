"""Files that are whole or absent, never half: on a local disk or an object store, drafted and put in place.

A process id names nothing here: in containers that share a disk every process may be number 1. So a draft
has a random name and is made with O_EXCL, and whether its writer lives is asked of a kernel lock.
Such locks also keep processes apart that work on one run: gone when their process is, also after kill -9.
"""

import fcntl
import io
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
import pyarrow as pa

from rpo_cli.errors import (
    Case,
    MissingDependency,
    RpoError,
    RunLocked,
    UsageError,
    disk_errors,
    is_of_system,
    nearest,
    translated,
)

TEMPORARY = ".rpo-tmp-"


def draft_of(path: Path, prefix: str = TEMPORARY) -> Path:
    """A new name beside `path`; without a suffix, since DuckDB's "*.parquet" takes hidden names too."""
    return path.with_name(f"{prefix}{secrets.token_hex(8)}-{path.stem[:64]}")


def create(path: Path, mode: int = 0o666) -> BinaryIO:
    """Open a new file for writing.

    Raises:
        FileExistsError: something stands there, also a link that leads elsewhere.
    """
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb")


def write_whole(path: Path, data: bytes, *, mode: int = 0o666, prefix: str = TEMPORARY) -> None:
    """Draft, fsync, rename, fsync of the folder: a kill leaves the old file or the new one.

    Raises:
        OSError: the draft is gone, and what was there before still is.
    """
    with writing_whole(path, mode=mode, prefix=prefix) as file:
        file.write(data)


@contextmanager
def writing_whole(path: Path, *, mode: int = 0o666, prefix: str = TEMPORARY) -> Iterator[BinaryIO]:
    """A file to fill bit by bit, which takes its name at the end as with `write_whole`.

    Raises:
        OSError: as there, and so whatever is raised within.
    """
    make_folder(path.parent)
    draft = draft_of(path, prefix)
    try:
        with create(draft, mode) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; a power cut after this does not lose their names."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(path: Path) -> None:
    """Flush a file, or the names in a folder: until then a power cut may undo a rename."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below a folder, and the folder itself."""
    for place in sorted(folder.rglob("*"), reverse=True):
        if not place.is_symlink():
            sync(place)
    sync(folder)


@contextmanager
def draft_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """A new folder in `parent` to fill; what of it has not been moved away is gone at the end.

    It is locked while it is filled, so that the next call clears what killed processes have left, and
    nothing of those that live.
    """
    make_folder(parent)
    draft = parent / f"{prefix}{secrets.token_hex(8)}"
    with held(parent, fcntl.LOCK_EX):  # nobody clears a draft between its birth and its lock
        for left in [each for each in parent.iterdir() if each.name.startswith(prefix)]:
            _clear_dead(left)
        draft.mkdir()
        handle = os.open(draft, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        os.close(handle)


def _clear_dead(left: Path) -> None:
    with suppress(OSError), held(left, fcntl.LOCK_EX | fcntl.LOCK_NB):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def held(folder: Path, kind: int) -> Iterator[None]:
    """A kernel lock on a folder that is no link.

    Args:
        kind: as `fcntl.flock` takes it.

    Raises:
        BlockingIOError: another process holds it, and `kind` has LOCK_NB.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)


Shard = tuple[int, int]


@contextmanager
def stage_lock(folder: Path, stage: str, shard: Shard | None) -> Iterator[None]:
    """Hold a stage of a run. Shards of one stage may run beside each other, never beside the whole stage.

    Raises:
        RunLocked: another process holds it.
        StorageError: the lock's file cannot be made.
    """
    with disk_errors(str(folder)):
        make_folder(folder)
    if shard is None:
        with _flock(folder / f"{stage}.lock", stage, fcntl.LOCK_EX):
            yield
        return
    own = folder / f"{stage}.{shard[0]}-of-{shard[1]}.lock"
    what = f"{stage}, shard {shard[0]}/{shard[1]},"
    with _flock(folder / f"{stage}.lock", stage, fcntl.LOCK_SH), _flock(own, what, fcntl.LOCK_EX):
        yield


@contextmanager
def waiting_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock that everybody holds for milliseconds only; waits for it.

    Raises:
        StorageError: the lock's file cannot be made.
    """
    with disk_errors(str(folder)):
        make_folder(folder)
        descriptor = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        with disk_errors(str(folder)):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _flock(path: Path, what: str, kind: int) -> Iterator[None]:
    with disk_errors(str(path)):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with disk_errors(str(path)):
            _take(descriptor, what, kind)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int, what: str, kind: int) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunLocked(
            f"another rpo{_holder(descriptor)} is working on {what} of this run",
            "wait for it to end, or give each process its own --shard i/n",
        ) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _holder(descriptor: int) -> str:
    """The process that took the lock last, unless it has ended: of several shards another may go on."""
    pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    try:
        os.kill(int(pid), 0)
    except PermissionError:  # it lives, under another user
        pass
    except (OSError, ValueError):
        return ""
    return f" (process {pid})"


_PART = (
    Case(
        [FileNotFoundError],
        "{where}: gone while it was read: another rpo has tidied this run",
        "run the command again",
    ),
    Case([OSError], "{where}: {system}", "see that you may read it", when=is_of_system),
    Case(
        [pa.ArrowException, OSError, ValueError],
        "{where}: not a whole part of this table: {why}",
        "delete this file and run the command again: it makes the missing rows",
    ),
)


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
        with disk_errors(self.join(name)), suppress(FileNotFoundError):
            self.system.rm_file(self.join(name))

    def write(self, name: str, data: bytes) -> None:
        """Write a file under its final name in one step.

        Local: temporary name, fsync, rename, fsync of the folder. Object store: one PUT.

        Raises:
            StorageError: disk full, no permission, read-only; the temporary file is gone.
        """
        with self.writing(name) as file:
            file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[BinaryIO]:
        """A file to fill bit by bit; it has its name at the end, or never. See `write`."""
        with disk_errors(self.join(name)):
            if self.local is None:
                buffer = io.BytesIO()  # closing a half-filled file of fsspec would give it its name
                yield buffer
                self.system.pipe_file(self.join(name), buffer.getvalue())
            else:
                with writing_whole(self.local / name) as file:
                    yield file


def _protocols(system: Any) -> tuple[str, ...]:
    protocol = system.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def reading(where: str) -> AbstractContextManager[None]:
    """Turn what goes wrong in reading a part into two lines that name the file."""
    return translated(*_PART, where=where)


def is_gone(error: RpoError) -> bool:
    """Whether what `reading` tells is that the file is not there any more."""
    return isinstance(error.__cause__, FileNotFoundError)

"""SHA-256 of files, remembered between commands: a model of 20 GB is read once, not at every command.

A file is the one that was read before when its path, size, inode and both times are as they were: the mtime
of a file can be set back, the time of the last change of its inode (ctime) cannot. A file that was changed
within the last seconds is not remembered, since a coarse clock would not show the next change.
"""

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SETTLED = 2 * 10**9  # nanoseconds: the coarsest clock of a file system in use ticks every two seconds
PATIENCE = 1.0  # seconds for another rpo that writes: it takes milliseconds
TABLE = "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, state TEXT, sha256 TEXT) WITHOUT ROWID"


@contextmanager
def file_hashes(cache: Path | None = None, *, rehash: bool = False) -> Iterator["FileHashes"]:
    """The remembered hashes, for many files.

    Args:
        cache: an SQLite file; None: hashes.sqlite in the user's cache directory.
        rehash: read every file, whatever is remembered.
    """
    place = cache or user_cache()
    hashes = FileHashes(_opened(place), rehash)
    try:
        yield hashes
    finally:
        if hashes.database is not None:
            with suppress(
                sqlite3.Error
            ):  # a full disk, another rpo that takes too long: they are found again
                hashes.database.commit()
            hashes.database.close()


@dataclass
class FileHashes:
    """Hashes by path, of which `database` remembers some; None: nothing can be remembered here."""

    database: sqlite3.Connection | None
    rehash: bool = False

    def of(self, path: Path) -> str:
        """SHA-256 of a file's bytes, hex.

        Raises:
            OSError: it cannot be read.
        """
        return self.known(path) or self._read(path)

    def known(self, path: Path) -> str | None:
        """The remembered hash, where the file is as it was."""
        if self.database is None or self.rehash:
            return None
        place, state = os.fsencode(path.resolve()), _state(path.stat())
        try:
            found = self.database.execute(
                "SELECT state, sha256 FROM files WHERE path = ?", (place,)
            ).fetchone()
        except sqlite3.Error:
            return None
        return str(found[1]) if found is not None and found[0] == state else None

    def _read(self, path: Path) -> str:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            value = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        fresh = time.time_ns() - max(after.st_mtime_ns, after.st_ctime_ns) < SETTLED
        if self.database is not None and not fresh and _state(before) == _state(after):
            row = (os.fsencode(path.resolve()), _state(after), value)
            with suppress(sqlite3.Error):  # a full disk: it is found again
                self.database.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", row)
        return value


def user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if os.path.isabs(home) else Path(os.path.expanduser("~")) / ".cache"
    return base / "rpo" / "hashes.sqlite"


def _state(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _opened(place: Path) -> sqlite3.Connection | None:
    """The database; made anew where it is spoilt, None where none can be: its loss costs time only."""
    for _ in range(2):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(place, timeout=PATIENCE, isolation_level=None)
        except (OSError, sqlite3.OperationalError):
            return None
        try:
            database.execute("PRAGMA synchronous = OFF")  # a power cut may cost the cache, and time only
            database.execute(TABLE)
            database.execute("SELECT path, state, sha256 FROM files LIMIT 1")
            return database
        except sqlite3.OperationalError as error:  # read-only, locked, or a table of other columns
            database.close()
            if "no such column" not in str(error):
                return None
        except sqlite3.DatabaseError:  # no SQLite file
            database.close()
        with suppress(OSError):
            place.unlink()
    return None

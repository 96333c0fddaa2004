"""Pictures of a run in reach by their hash, without holding them in memory."""

import tempfile
from collections.abc import Iterable
from types import TracebackType
from typing import Self

IN_MEMORY = 128_000_000


class PictureShelf:
    """Encoded pictures, read from the store once in its own order and then from a scratch file in any.

    A table's parts hold many pictures each, so fetching pair by pair would read each part many times. Up
    to IN_MEMORY bytes the scratch file is memory; it is gone when the shelf is closed, or killed.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (closed by __exit__)
        self._where: dict[str, tuple[int, int]] = {}

    def add(self, pictures: Iterable[tuple[str, bytes]]) -> None:
        """(sha256, encoded bytes) each; a hash that is there already is passed over."""
        for key, data in pictures:
            if key not in self._where:
                self._where[key] = (self._file.seek(0, 2), len(data))
                self._file.write(data)

    def __getitem__(self, sha256: str) -> bytes:
        start, length = self._where[sha256]
        self._file.seek(start)
        return self._file.read(length)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

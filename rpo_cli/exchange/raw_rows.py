"""Rows of files as Python values, of damaged files too, and why one is none."""

from typing import Any

import pyarrow as pa

# what reading a damaged file raises: names that are no UTF-8, numbers too large among them
BROKEN = (OSError, ValueError, OverflowError, MemoryError, pa.ArrowException)


def plain_rows(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The rows of a batch; a text that is no UTF-8 is a BadRow in its place."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        names = batch.schema.names
        return [{name: _plain(batch[name][n], name) for name in names} for n in range(batch.num_rows)]


def _plain(value: pa.Scalar, name: str) -> Any:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        return BadRow("bad_text", f"{name}: byte {error.start} of the text is not UTF-8")


def first_line(error: Exception) -> str:
    """The first line of what an error says; its name where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


class BadRow(Exception):
    """Raised while a row is read; becomes a `Bad`, never a failure of the import."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

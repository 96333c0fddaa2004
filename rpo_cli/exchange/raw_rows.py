"""Rows of files as Python values, of damaged files too, and why one is none.

JSON lines, and JSON arrays of any size, a piece at a time; what is no JSON is named with its line.
"""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

from rpo_cli.errors import UsageError
from rpo_cli.exchange.places import Place, touch
from rpo_cli.text import MARK, opened, refusal

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


class BadRow(Exception):
    """Raised while a row is read; becomes a `Bad`, never a failure of the import."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


PIECE = 2**20  # characters read at once
MAX_ROW = 64 * 2**20  # characters of one row; more is no row of a data set
# files that were joined have a byte-order mark in their middle, named encodings one at their start
_SPACE = f" \t\r\n{MARK}"
_SEEN = re.compile(f"[^{_SPACE}]")
# what JSON lets stand as it is and some readers of lines take for a line's end
_ENDS = {ord(end): f"\\u{ord(end):04x}" for end in "\u0085\u2028\u2029"}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object, whose names all differ: of two values of one name none is the right one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands twice")
    return found


_STRICT = json.JSONDecoder(object_pairs_hook=_once)
_DECODER = json.JSONDecoder()


def parsed(text: str) -> Any:
    """A JSON document.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        return _STRICT.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def json_line(value: Any) -> str:
    """A value as one JSON line, keys in their order, which every reader takes for one line."""
    return json.dumps(value, ensure_ascii=False).translate(_ENDS) + "\n"


def json_lines(path: Place, encoding: str | None = None) -> Iterator[tuple[int, Any]]:
    r"""(line number from 0, document or BadRow) of every line that is not blank; lines end at \n or \r\n.

    Raises:
        UsageError: the file is not text of this encoding.
    """
    touch(path)
    with opened(path, encoding) as file:
        for number, line in enumerate(_strictly(path, file, encoding)):
            if line.strip(_SPACE):
                yield number, _document(line)


def _strictly(path: Place, file: IO[str], encoding: str | None) -> Iterator[str]:
    try:
        yield from file
    except UnicodeError as error:
        raise refusal(path, encoding) from error


def _document(line: str) -> Any:
    try:
        return parsed(line.strip(_SPACE))
    except ValueError as error:
        return BadRow("bad_json", str(error)[:200])


def is_list(path: Place, encoding: str | None = None) -> bool:
    """Whether a file begins as a JSON array.

    Raises:
        UsageError: the file is not text of this encoding.
    """
    with opened(path, encoding) as file:
        try:
            return _Ahead(path, file).next() == "["
        except UnicodeError as error:
            raise refusal(path, encoding) from error


def json_items(path: Place, encoding: str | None = None) -> Iterator[tuple[int, Any]]:
    """(place, item) of a JSON array, without the whole array in memory.

    Raises:
        UsageError: no JSON array, one that breaks off or goes on after its end, or no text.
    """
    touch(path)
    with opened(path, encoding) as file:
        try:
            yield from _items(path, file)
        except UnicodeError as error:
            raise refusal(path, encoding) from error


def _items(path: Place, file: IO[str]) -> Iterator[tuple[int, Any]]:
    text = _Ahead(path, file)
    if text.next() != "[":
        raise UsageError(f"{path}: not a JSON array", "check the file, or name another --format")
    text.skip()
    if text.next() == "]":
        text.skip()
        return text.end()
    number = 0
    while True:
        yield number, text.document(number)
        number += 1
        mark = text.next()
        if mark not in (",", "]"):
            raise UsageError(f"{path}: no comma after item {number - 1:,}", "check the file")
        text.skip()
        if mark == "]":
            return text.end()


class _Ahead:
    """The characters of a file, as many as are needed: those from `_at` on in the buffer are ahead."""

    def __init__(self, path: Place, file: IO[str]) -> None:
        self._path, self._file, self._buffer, self._at = path, file, "", 0

    def next(self) -> str:
        """The next character that is no space, which stays; "" at the end."""
        while True:
            found = _SEEN.search(self._buffer, self._at)
            if found is not None:
                self._at = found.start()
                return found[0]
            self._buffer, self._at = self._file.read(PIECE), 0
            if not self._buffer:
                return ""

    def skip(self) -> None:
        self._at += 1

    def end(self) -> None:
        if self.next():
            raise UsageError(f"{self._path}: goes on after the end of its array", "check the file")

    def document(self, number: int) -> Any:
        self.next()
        while True:
            try:
                _, stop = _DECODER.raw_decode(self._buffer, self._at)
                if stop < len(self._buffer):  # else a number might go on
                    text, self._at = self._buffer[self._at : stop], stop
                    return _document(text)
                error: Exception = ValueError("it does not end")
            except (ValueError, RecursionError) as caught:
                error = caught
            self._buffer, self._at = self._buffer[self._at :], 0
            piece = self._file.read(max(PIECE, len(self._buffer)))
            if not piece or len(self._buffer) > MAX_ROW:
                raise UsageError(
                    f"{self._path}: breaks off in item {number:,}: {error}", "download it again"
                ) from error
            self._buffer += piece

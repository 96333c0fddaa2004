"""Rows of text files: JSON lines, CSV, and JSON arrays of any size, a piece at a time."""

import csv
import json
from collections.abc import Iterator
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.exchange.incoming import BadRow, Place
from rpo_cli.exchange.touched import touch

PIECE = 2**20  # characters read at once
MAX_ROW = 64 * 2**20  # characters of one row; more is no row of a data set
_DECODER = json.JSONDecoder()
_SPACE = " \t\r\n"


def json_lines(path: Place) -> Iterator[tuple[int, Any]]:
    """(line number from 0, object or BadRow) of every line that is not blank."""
    touch(path)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file):
            if line.strip():
                yield number, _object(line)


def _object(line: str) -> Any:
    try:
        found = json.loads(line)
    except ValueError as error:
        return BadRow("bad_json", str(error)[:200])
    return found if isinstance(found, dict) else BadRow("bad_json", "not a JSON object")


def csv_rows(path: Place) -> Iterator[tuple[int, Any]]:
    """(row number from 0, row) of a CSV file with a header; an empty cell is no value."""
    touch(path)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        try:
            for number, row in enumerate(csv.DictReader(file)):
                yield number, {key: value for key, value in row.items() if key and value}
        except csv.Error as error:
            raise UsageError(f"{path}: not valid CSV: {error}", "check the file") from error


def json_items(path: Place) -> Iterator[tuple[int, Any]]:
    """(place, item) of a JSON array of objects, without the whole array in memory.

    Raises:
        UsageError: no JSON array, or one that breaks off.
    """
    touch(path)
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        buffer = file.read(PIECE).lstrip(_SPACE)
        if not buffer.startswith("["):
            raise UsageError(f"{path}: not a JSON array", "check the file, or name another --format")
        buffer, number = buffer[1:], 0
        while True:
            buffer = buffer.lstrip(_SPACE + ",")
            if buffer.startswith("]"):
                return
            try:
                item, end = _DECODER.raw_decode(buffer)
            except ValueError as error:
                piece = file.read(max(PIECE, len(buffer)))
                if not piece or len(buffer) > MAX_ROW:
                    raise UsageError(
                        f"{path}: breaks off in item {number:,}: {error}", "download it again"
                    ) from error
                buffer += piece
                continue
            buffer = buffer[end:]
            yield number, item if isinstance(item, dict) else BadRow("bad_json", "not a JSON object")
            number += 1

"""Files that prompts stand in: text (one a line), CSV, TSV, JSON lines or a list, Parquet."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rpo_cli.config import PromptSettings
from rpo_cli.delimited import DELIMITERS, delimiter_of, read_table
from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.columns import BROKEN, first_line, plain_rows
from rpo_cli.exchange.incoming import BadRow
from rpo_cli.exchange.json_text import is_list, json_items, json_lines
from rpo_cli.text import known_encoding, lines, read_text

JSON = (".json", ".jsonl", ".ndjson")
SUFFIXES = (".txt", *DELIMITERS, *JSON, ".parquet")
LIKELY_COLUMNS = ("prompt", "caption", "text", "Prompt", "Caption", "Text")
Placed = Iterator[tuple[str, Any]]  # where a value stands ("line 3", "row 3"), and the value


def read_values(path: Path, s: PromptSettings) -> tuple[Placed, list[str]]:
    """The values of a file's prompts, and what is to be said of how it was read.

    A table's value is whatever stands in the column: None where there is nothing; it may be no text.

    Raises:
        UsageError: no such file, an ending that is none of SUFFIXES, text in another encoding, a table
            that no reading fits, JSON that is none, or which column is not known.
    """
    if not path.is_file():
        siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"{path}: no such file{nearest(str(path), siblings)}", "pass --prompts FILE")
    known_encoding(s.encoding)
    delimiter, ending = delimiter_of(s.delimiter), path.suffix.lower()
    if ending == ".txt":
        found = lines(read_text(path, s.encoding))
        return ((f"line {number:,}", line) for number, line in enumerate(found, 1)), _odd(found, path)
    if ending in DELIMITERS:
        text = read_text(path, s.encoding)
        table = read_table(text, str(path), ending, delimiter, s.quoting)
        rows = ((f"line {line:,}", row) for line, row in table.mappings())
        names = [name for name in table.header if name]
        blank = ((f"a line of {path.name}", "") for _ in range(table.blank))
        return _chain(_of_column(rows, names, path, s.column), blank), [table.note] * bool(table.note)
    if ending in JSON:
        return _json(path, s), []
    if ending == ".parquet":
        return _parquet(path, s.column), []
    raise UsageError(
        f"{path}: prompts cannot be read from '{path.suffix}'", f"use one of {', '.join(SUFFIXES)}"
    )


def _odd(found: list[str], path: Path) -> list[str]:
    """What a text's lines look like that they are not read as."""
    ends = sum(line.rstrip("\r").count("\r") for line in found)
    said = []
    if ends:
        said.append(f"{path.name}: {ends:,} lone carriage returns are part of the text, no ends of lines")
    if len(found) > 1 and all("\t" in line for line in found if line.strip()):
        said.append(f"{path.name}: every line holds a tab, and is read whole; a table's name ends in .tsv")
    return said


def _chain(first: Placed, second: Placed) -> Placed:
    yield from first
    yield from second


def _of_column(
    rows: Iterable[tuple[str, dict[str, Any]]], names: list[str], path: Path, column: str | None
) -> Placed:
    if not names:
        return iter(())
    name = pick_column(names, str(path), column)
    return ((place, row.get(name)) for place, row in rows)


def _json(path: Path, s: PromptSettings) -> Placed:
    """Objects with a column, or texts alone: a list, or one a line; read twice, never whole in memory."""
    names = dict.fromkeys(
        name for _, item in _documents(path, s) if isinstance(item, dict) for name in item
    )
    if not names:
        return _documents(path, s)
    name = pick_column(list(names), str(path), s.column)
    found = _documents(path, s)
    return ((place, item.get(name) if isinstance(item, dict) else item) for place, item in found)


def _documents(path: Path, s: PromptSettings) -> Placed:
    if path.suffix.lower() == ".json" and is_list(path, s.encoding):
        yield from ((f"item {number:,}", item) for number, item in json_items(path, s.encoding))
        return
    for number, item in json_lines(path, s.encoding):
        if isinstance(item, BadRow):
            raise UsageError(
                f"{path}:{number + 1}: not valid JSON: {item.detail}", "one JSON object a line"
            )
        yield f"line {number + 1:,}", item


def _parquet(path: Path, column: str | None) -> Placed:
    try:
        names = pq.read_schema(path).names
        name = pick_column(names, str(path), column) if names else ""
        batches = pq.read_table(path, columns=[name]).to_batches() if name else []
        values = [row[name] for batch in batches for row in plain_rows(batch)]
    except BROKEN as error:
        reason = first_line(error)
        raise UsageError(f"{path}: not a readable Parquet file: {reason}", "check the file") from error
    return ((f"row {number:,}", value) for number, value in enumerate(values))


def pick_column(columns: list[str], where: str, column: str | None) -> str:
    """The named column, or the first likely one of `columns`."""
    if column is None:
        column = next((name for name in LIKELY_COLUMNS if name in columns), None)
        if column is None:
            raise UsageError(
                f"{where}: which column holds the prompts? it has: {', '.join(columns)}",
                "pass --column NAME, or --delimiter where the columns stand in one name",
            )
    if column not in columns:
        raise UsageError(
            f"{where}: no column '{column}'; it has: {', '.join(columns)}{nearest(column, columns)}",
            "pass --column NAME",
        )
    return column

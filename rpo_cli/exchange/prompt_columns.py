"""Prompts in a column: of a table, of JSON documents, of Parquet, of a data set."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rpo_cli.config import PromptSettings
from rpo_cli.delimited import DELIMITERS, read_table
from rpo_cli.errors import Case, UsageError, nearest, translated
from rpo_cli.exchange.raw_rows import BROKEN, BadRow, is_list, json_items, json_lines, plain_rows
from rpo_cli.text import read_text

LIKELY_COLUMNS = ("prompt", "caption", "text", "Prompt", "Caption", "Text")
Placed = Iterator[tuple[str, Any]]  # as of `prompts.Placed`
_NO_PARQUET = Case(BROKEN, "{where}: not a readable Parquet file: {why}", "check the file", UsageError)
_NO_DATASET = Case(
    [OSError, ValueError],  # DatasetNotFoundError is a FileNotFoundError
    "dataset {where}: cannot be opened: {all}",
    "check its name, --set prompts.split=..., and the network",
    facts=lambda error: {"all": str(error)},
)


def values_of_file(
    path: Path, ending: str, s: PromptSettings, delimiter: str | None
) -> tuple[Placed, list[str]]:
    """The values of a file's column, and what is to be known of how it was read; see `read_values`."""
    if ending in DELIMITERS:
        text = read_text(path, s.encoding)
        table = read_table(text, str(path), ending, delimiter, s.quoting)
        rows = ((f"line {line:,}", row) for line, row in table.mappings())
        names = [name for name in table.header if name]
        blank = ((f"a line of {path.name}", "") for _ in range(table.blank))
        return _chain(_of_column(rows, names, path, s.column), blank), [table.note] * bool(table.note)
    found = _parquet(path, s.column) if ending == ".parquet" else _json(path, s)
    values = ((at, ValueError(one.detail) if isinstance(one, BadRow) else one) for at, one in found)
    return values, []


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
    with translated(_NO_PARQUET, where=str(path)):
        names = pq.read_schema(path).names
        name = pick_column(names, str(path), column) if names else ""
        batches = pq.read_table(path, columns=[name]).to_batches() if name else []
        values = [row[name] for batch in batches for row in plain_rows(batch)]
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


def values_of_dataset(name: str, settings: PromptSettings) -> Placed:
    """The values of a data set of the hub, or of a folder that `datasets` reads; a row at a time.

    Raises:
        UsageError: which column is not known.
        RpoError: it cannot be opened.
    """
    from datasets import load_dataset

    with translated(_NO_DATASET, where=name):
        rows = load_dataset(name, split=settings.split, streaming=True).resolve_features()
    column = pick_column(list(rows.column_names), name, settings.column)
    # without the other columns no image or audio of the dataset is decoded
    chosen = rows.select_columns([column])
    return ((f"row {number:,}", row[column]) for number, row in enumerate(chosen))

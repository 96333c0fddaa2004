"""Prompts in: a text file (one a line), TSV, CSV, JSONL, Parquet with a named column, or a dataset."""

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rpo_cli.config import PromptSettings
from rpo_cli.errors import RpoError, UsageError, nearest
from rpo_cli.records import Prompt, content_key

SUFFIXES = {".txt", ".tsv", ".csv", ".jsonl", ".parquet"}
MAX_CHARACTERS = 10_000
LIKELY_COLUMNS = ("prompt", "caption", "text", "Prompt", "Caption", "Text")


def read_prompts(settings: PromptSettings) -> list[Prompt]:
    """The prompts of a run, in the order of their source, each text once, at most `limit`.

    Raises:
        UsageError: no source, a missing or empty file, an unknown column, a text over 10,000 characters.
    """
    if settings.file is not None:
        texts, source = read_file(Path(settings.file), settings.column), Path(settings.file).name
    elif settings.dataset is not None:
        texts, source = _read_dataset(settings), settings.dataset
    else:
        raise UsageError("no prompts given", "pass --prompts FILE (txt, tsv, csv, jsonl, parquet)")
    prompts = []
    for text in _distinct(texts):
        if len(text) > MAX_CHARACTERS:
            raise UsageError(
                f"{source}: a prompt has {len(text):,} characters, more than {MAX_CHARACTERS:,}",
                "check --column and the file's format",
            )
        prompts.append(Prompt(prompt_id=content_key("prompt", text), prompt=text, source=source))
        if len(prompts) == settings.limit:
            break
    if not prompts:
        raise UsageError(f"{source}: holds no prompt", "one prompt a line, or --column NAME for a table")
    return prompts


def _distinct(texts: Iterable[str]) -> Iterator[str]:
    """Trimmed texts, without empty ones, each at its first place."""
    seen: set[str] = set()
    for raw in texts:
        text = raw.strip()
        if text and text not in seen:
            seen.add(text)
            yield text


def read_file(path: Path, column: str | None) -> Iterator[str]:
    if not path.is_file():
        siblings = [str(p) for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(f"{path}: no such file{nearest(str(path), siblings)}", "pass --prompts FILE")
    if path.suffix not in SUFFIXES:
        raise UsageError(
            f"{path}: prompts cannot be read from '{path.suffix}'",
            f"use one of {', '.join(sorted(SUFFIXES))}",
        )
    if path.suffix == ".txt":
        return iter(_text(path).splitlines())
    return (str(row) for row in _column(_table(path), path, column))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 text", "convert it, e.g. with iconv") from error


def _table(path: Path) -> dict[str, list[Any]]:
    if path.suffix == ".parquet":
        return _parquet(path)
    if path.suffix == ".jsonl":
        rows = [_json_line(path, number, line) for number, line in enumerate(_text(path).splitlines(), 1)]
    elif path.suffix == ".tsv":
        # TSV has no quoting: csv's default would swallow a row of PartiPrompts that holds one quote
        rows = list(csv.DictReader(_text(path).splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    else:
        rows = list(csv.DictReader(_text(path).splitlines()))
    columns = sorted({str(key) for row in rows for key in row if key is not None})
    return {column: [row.get(column) or "" for row in rows] for column in columns}


def _json_line(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line or "{}")
    except json.JSONDecodeError as error:
        raise UsageError(f"{path}:{number}: not valid JSON: {error}", "one JSON object a line") from error
    if not isinstance(row, dict):
        raise UsageError(f"{path}:{number}: not a JSON object", "one JSON object a line")
    return row


def _parquet(path: Path) -> dict[str, list[Any]]:
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: not a readable Parquet file: {error}", "check the file") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _column(table: dict[str, list[Any]], path: Path, column: str | None) -> list[Any]:
    if not table:
        return []
    return [value for value in table[pick_column(list(table), str(path), column)] if value is not None]


def pick_column(columns: list[str], where: str, column: str | None) -> str:
    """The named column, or the first likely one of `columns`."""
    if column is None:
        column = next((name for name in LIKELY_COLUMNS if name in columns), None)
        if column is None:
            raise UsageError(
                f"{where}: which column holds the prompts? it has: {', '.join(columns)}",
                "pass --column NAME",
            )
    if column not in columns:
        raise UsageError(
            f"{where}: no column '{column}'; it has: {', '.join(columns)}{nearest(column, columns)}",
            "pass --column NAME",
        )
    return column


def _read_dataset(settings: PromptSettings) -> Iterator[str]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    assert settings.dataset is not None
    try:
        rows = load_dataset(settings.dataset, split=settings.split, streaming=True).resolve_features()
    except (DatasetNotFoundError, OSError, ValueError) as error:
        raise RpoError(
            f"dataset {settings.dataset}: cannot be opened: {error}",
            "check its name, --set prompts.split=..., and the network",
        ) from error
    column = pick_column(list(rows.column_names), settings.dataset, settings.column)
    # without the other columns no image or audio of the dataset is decoded
    return (str(row[column]) for row in rows.select_columns([column]) if row[column] is not None)

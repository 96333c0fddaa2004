"""What `datasets.save_to_disk` writes: Arrow streams, listed in state.json, in folders of splits."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from rpo_cli.errors import RpoError, UsageError, first_line
from rpo_cli.exchange.importers.parquet import FILE, typed_table
from rpo_cli.exchange.incoming import Options, Source, inside, refuse
from rpo_cli.exchange.places import Place, touch
from rpo_cli.exchange.raw_rows import BROKEN, BadRow, plain_rows

BATCH = 16  # rows that are in memory as Python objects
HINT = "check the folder, or name another --format; see `rpo list importers`"


def open_saved(path: Place, options: Options) -> Source | None:
    """A folder of `Dataset.save_to_disk`, or of `DatasetDict.save_to_disk` with its splits.

    Source: https://huggingface.co/docs/datasets/process#save
    """
    folder, note = _split(path, options)
    if folder is None:
        if options.asked:
            raise refuse(path, "no state.json beside dataset_info.json", _listing(path), HINT)
        return None
    files = _files(folder)
    with files[0].open("rb") as file:
        schema = _stream(files[0], file).schema
    source = typed_table(folder, files, schema, partial(_rows, files), options)
    if source is None:
        raise refuse(
            path, "no columns of a prompt and pictures", ", ".join(schema.names), "--map ROLE=COLUMN"
        )
    from dataclasses import replace

    return replace(source, note="; ".join(filter(None, (note, source.note))))


def _split(path: Place, options: Options) -> tuple[Place | None, str]:
    """The folder that holds the rows, and which split it is."""
    if not path.is_dir():
        return None, ""
    if (path / "state.json").is_file():
        return path, ""
    found = [item.name for item in path.iterdir() if (item / "state.json").is_file()]
    if not found:
        return None, ""
    name = options.split or ("train" if "train" in found else found[0] if len(found) == 1 else None)
    if name not in found:
        raise UsageError(f"{path}: no split '{name}'", f"--split NAME, one of {', '.join(sorted(found))}")
    others = sorted(set(found) - {name})
    return (
        path / name,
        f"reading split {name}; others ({', '.join(others)}): --split NAME" if others else "",
    )


def _files(folder: Place) -> list[Place]:
    try:
        named = [
            item["filename"] for item in json.loads((folder / "state.json").read_bytes())["_data_files"]
        ]
        found = [inside(folder, name) for name in named]
    except (ValueError, KeyError, TypeError, BadRow) as error:
        raise UsageError(
            f"{folder}/state.json: does not name its files ({error})", "save it again"
        ) from error
    if not found:
        raise UsageError(f"{folder}: state.json names no files", "it has no rows")
    return found


def _stream(path: Place, file: Any) -> pa.RecordBatchStreamReader:
    try:
        stream = pa.ipc.open_stream(file)
        list(stream.schema.names)  # which need not be text in a damaged file
        return stream
    except BROKEN as error:
        raise UsageError(
            f"{path}: no readable Arrow stream: {first_line(error)}", "save it again"
        ) from error


def _rows(
    files: Sequence[Place], columns: Sequence[str], start: int = 0
) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    for path in files:
        touch(path)
        with path.open("rb") as file:
            try:
                for batch in _stream(path, file):
                    batch.validate(full=True)  # a damaged offset would be read as an address
                    for first in range(0, batch.num_rows, BATCH):
                        part = batch.slice(first, BATCH)
                        if number + part.num_rows > start:
                            rows = plain_rows(part.select(list(columns)))
                            yield from (
                                (number + n, {**row, FILE: path})
                                for n, row in enumerate(rows)
                                if number + n >= start
                            )
                        number += part.num_rows
            except BROKEN as error:
                raise RpoError(
                    f"{path}: breaks off at row {number:,}: {first_line(error)}",
                    "save it again; the rows before are kept",
                ) from error


def _listing(path: Place) -> str:
    names = sorted(item.name for item in path.iterdir()) if path.is_dir() else [path.name]
    return ", ".join(names[:10]) or "nothing"

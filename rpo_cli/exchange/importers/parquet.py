"""Parquet in: files of a split, columns checked, rows one small batch at a time.

What is in memory at once is one page of each column: Arrow's own writer cuts pages at 1,024 rows or a row
group, whichever is less, however large their pictures are.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli.errors import RpoError, UsageError, first_line
from rpo_cli.exchange.importers.labels import shares
from rpo_cli.exchange.importers.layouts import coded, layout_of, to_entry
from rpo_cli.exchange.incoming import (
    Entry,
    Options,
    Picture,
    Source,
    Vote,
    encoded,
    entries,
    ordered,
    prompt_of,
    refuse,
)
from rpo_cli.exchange.places import HubPath, Place, below, touch
from rpo_cli.exchange.raw_rows import BROKEN, plain_rows

BATCH = 16  # rows that are in memory at once: two pictures each
BUFFER = 2**20  # bytes read ahead of a column, instead of a whole row group
FAR_BUFFER = 2**22  # from the hub: fewer requests; smaller files come whole
COUNTED = 8  # more files of the hub are not opened only to say how many rows there are
FILE = "\0file"  # beside a row's columns: where it stands
PICK_A_PIC = ("caption", "jpg_0", "jpg_1", "label_0")
PICK_A_PIC_TOO = (
    *("label_1", "has_label", "image_0_uid", "image_1_uid"),
    *("model_0", "model_1", "ranking_id", "pair_kind"),
)


def open_pickapic(path: Place, options: Options) -> Source | None:
    """Pick-a-Pic v1 and v2: Parquet with both pictures as bytes.

    Source: https://huggingface.co/datasets/yuvalkirstain/pickapic_v2
    """
    files, note = files_of(path, options)
    columns = columns_of(files)
    missing = [name for name in PICK_A_PIC if name not in columns]
    if missing and not options.asked:
        return None
    if missing:
        raise _lacks(path, missing, columns)
    ours = "pair_kind" in columns  # a dataset of rpo: labels of rewards stand beside labels of people
    wanted = [name for name in (*PICK_A_PIC, *PICK_A_PIC_TOO) if name in columns]
    return Source(
        root=path if path.is_dir() else path.parent,
        files=tuple(files),
        judged_by="source" if ours else "human",
        read=lambda start: entries(rows_of(files, wanted, start), _pick),
        rows=count(files),
        note=note,
        unused=lambda: [name for name in columns if name not in wanted],
    )


def _pick(row: int, raw: dict[str, Any]) -> Entry:
    told = raw.get("has_label", True) is not False
    choice, share = shares(raw["label_0"], raw.get("label_1")) if told else (None, None)
    ranking = raw.get("ranking_id")
    prompt = prompt_of(raw["caption"])
    data = [encoded(raw[f"jpg_{n}"], f"jpg_{n}") for n in (0, 1)]
    names = [(known(raw, f"image_{n}_uid"), known(raw, f"model_{n}")) for n in (0, 1)]
    pictures = tuple(Picture(one, *said) for one, said in zip(data, names, strict=True))
    vote = Vote(0, 1, choice, None if ranking is None else str(ranking), share)
    return Entry(row, prompt, pictures, (vote,))


def known(raw: dict[str, Any], name: str) -> str | None:
    return str(raw[name]) if raw.get(name) else None


def open_image_preferences(path: Place, options: Options) -> Source | None:
    """Open-image-preferences-v1-binarized: Parquet with prompt, chosen and rejected, judged by people.

    Source: https://huggingface.co/datasets/data-is-better-together/open-image-preferences-v1-binarized
    """
    card = path / "README.md"
    named = [path.resolve().as_posix()]
    named += [card.read_text(encoding="utf-8", errors="replace")[:100_000]] if card.is_file() else []
    if not options.asked and not any("open-image-preferences" in text for text in named):
        return None
    source = open_table(path, options)
    return source and replace(source, judged_by="human", license=source.license or "apache-2.0")


def open_table(path: Place, options: Options) -> Source | None:
    """Parquet with pictures, lists of them or paths to them: one, or a chosen and a rejected one."""
    files, note = files_of(path, options)
    source = typed_table(path, files, schema_of(files), partial(placed_rows, files), options)
    return source and replace(source, rows=count(files), note="; ".join(filter(None, (note, source.note))))


Rows = Callable[[Sequence[str], int], Iterator[tuple[int, dict[str, Any]]]]


def typed_table(
    path: Place, files: Sequence[Place], schema: pa.Schema | None, rows: Rows, options: Options
) -> Source | None:
    """A source of Arrow's columns, whose types say which of them hold pictures.

    Args:
        rows: (columns, first row) → (number, row with its file under FILE) from that row on.
    """
    names = list(schema.names) if schema else []
    typed = [field.name for field in schema if _is_picture(field.type)] if schema else []
    texts = [field.name for field in schema if _is_text(field.type)] if schema else []
    layout = layout_of(typed, names, options)
    if layout.missing and texts:  # a column of paths
        paths = layout_of([*typed, *(name for name in texts if name != layout.prompt)], names, options)
        layout = layout if paths.missing else paths
    if layout.missing:
        if options.asked or options.columns:
            raise _lacks(path, layout.missing, names)
        return None
    layout, told = coded(layout, lambda column: (row[column] for _, row in rows([column], 0)))

    def entry(row: int, raw: dict[str, Any]) -> Entry:
        root = options.images or raw[FILE].parent
        return to_entry(layout, lambda value, column: encoded(value, column, root), row, raw)

    return Source(
        root=path if path.is_dir() else path.parent,
        files=tuple(files),
        judged_by="source",
        read=lambda start: entries(rows(layout.columns(names), start), entry),
        note=told,
        unused=lambda: layout.unused(names),
    )


def _lacks(path: Place, missing: Sequence[str], columns: Sequence[str]) -> UsageError:
    return refuse(
        path,
        f"no column {', '.join(missing)}" if columns else "no Parquet files",
        ", ".join(columns) or "nothing",
        "check the folder, or name another --format; see `rpo list importers`",
    )


def _is_picture(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if any(holds(kind) for holds in (*lists, pa.types.is_dictionary)):
        return _is_picture(kind.value_type)
    if pa.types.is_struct(kind):
        return "bytes" in {field.name for field in kind}
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts, in any of Arrow's ways."""
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


# --- files ---------------------------------------------------------------------------------------------


def files_of(path: Place, options: Options) -> tuple[list[Place], str]:
    """The Parquet files of a file or folder: those of the split, else of "train", else all; and a note."""
    if path.is_file():
        return ([path] if path.suffix.lower() == ".parquet" else []), ""
    found = ordered(file for file in path.rglob("*.parquet") if not file.name.startswith("."))
    if not options.asked:  # of an image folder, whose splits are folders
        found = [file for file in found if file.name != "metadata.parquet"]
    split = options.split or "train"
    chosen = [file for file in found if _of_split(file, path, split)]
    if options.split and found and not chosen:
        raise UsageError(
            f"{path}: no Parquet file of split '{options.split}'",
            f"its files: {', '.join(file.name for file in found[:5]) or 'none'}",
        )
    if not chosen or len(chosen) == len(found):
        return found, ""
    return chosen, f"reading split {split}: {len(chosen)} of {len(found)} files; others: --split NAME"


def _of_split(file: Place, top: Place, split: str) -> bool:
    """Whether a name says its split: train-00000-of-00001.parquet, train.parquet, train/0000.parquet."""
    folders = (below(file, top) or "").split("/")[:-1]
    return file.name.startswith(f"{split}-") or file.stem == split or split in folders


def schema_of(files: Sequence[Place]) -> pa.Schema | None:
    """The schema of the first file.

    Raises:
        UsageError: the file is no Parquet.
    """
    if not files:
        return None
    return _open(files[0]).schema_arrow


def columns_of(files: Sequence[Place]) -> list[str]:
    schema = schema_of(files)
    return list(schema.names) if schema else []


def count(files: Sequence[Place]) -> int | None:
    """Rows of all files; None where it would take too many requests to know."""
    if len(files) > COUNTED and isinstance(files[0], HubPath):
        return None
    return sum(_open(file).metadata.num_rows for file in files)


def _open(file: Place) -> pq.ParquetFile:
    try:
        if isinstance(file, HubPath) and file.stat().st_size <= FAR_BUFFER:
            found = pq.ParquetFile(BytesIO(file.read_bytes()))
        elif isinstance(file, HubPath):
            found = pq.ParquetFile(file.open("rb", 0), pre_buffer=False, buffer_size=FAR_BUFFER)
        else:
            found = pq.ParquetFile(file, pre_buffer=False, buffer_size=BUFFER)
        list(found.schema_arrow.names)  # which need not be text in a damaged file
        return found
    except BROKEN as error:
        raise UsageError(
            f"{file}: no readable Parquet file: {first_line(error)}", "download it again"
        ) from error


def rows_of(
    files: Sequence[Place], columns: Sequence[str], start: int = 0, only: Set[int] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number over all files, row) from row `start` on; row groups without a wanted row are not read.

    Args:
        only: numbers of the wanted rows; None: all.

    Raises:
        UsageError: a later file lacks a column.
        RpoError: a file breaks off.
    """
    base = 0
    for path in files:
        file = _open(path)
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise _lacks(path, missing, file.schema_arrow.names)
        for index in range(file.num_row_groups):
            numbers = range(base, base + file.metadata.row_group(index).num_rows)
            base = numbers.stop
            wanted = numbers[max(start - numbers.start, 0) :]
            if wanted and (only is None or not only.isdisjoint(wanted)):
                touch(path)
                yield from (
                    (number, row)
                    for number, row in zip(numbers, _group(path, file, index, columns), strict=True)
                    if number >= start and (only is None or number in only)
                )


def placed_rows(
    files: Sequence[Place], columns: Sequence[str], start: int = 0
) -> Iterator[tuple[int, dict[str, Any]]]:
    """`rows_of`, each row with the file that it stands in under the name FILE."""
    base, ends = 0, []
    for file in files:
        base += _open(file).metadata.num_rows
        ends.append((base, file))
    for number, row in rows_of(files, columns, start):
        yield number, {**row, FILE: next(file for end, file in ends if number < end)}


def _group(
    path: Place, file: pq.ParquetFile, index: int, columns: Sequence[str]
) -> Iterator[dict[str, Any]]:
    try:
        for batch in file.iter_batches(BATCH, row_groups=[index], columns=columns, use_threads=False):
            yield from plain_rows(batch)
    except BROKEN as error:
        raise RpoError(
            f"{path}: breaks off in row group {index}: {first_line(error)}",
            "download it again; the rows before are kept",
        ) from error

"""Pictures in folders: beside a table that names them, or as two folders of winners and losers."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from rpo_cli.exchange.importers.mapped import layout_of, to_entry
from rpo_cli.exchange.importers.parquet import columns_of, rows_of
from rpo_cli.exchange.importers.text import csv_rows, json_lines
from rpo_cli.exchange.incoming import (
    PICTURES,
    BadRow,
    Entry,
    Options,
    Picture,
    Place,
    Source,
    Vote,
    entries,
    inside,
    load,
    ordered,
    prompt_of,
    refuse,
)

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
WINNERS = ("win", "winner", "chosen", "preferred")
LOSERS = ("lose", "loser", "rejected", "unpreferred")
LOOKED_AT = 20  # rows whose names say what the columns are
HINT = "check the file, or name another --format; see `rpo list importers`"


def open_imagefolder(path: Place, options: Options) -> Source | None:
    """An image folder: metadata.jsonl, .csv or .parquet names pictures (or pairs) and prompts.

    Source: https://huggingface.co/docs/hub/datasets-image
    """
    if path.is_dir() and options.split and (path / options.split).is_dir():
        path = path / options.split
    table = next((path / name for name in METADATA if (path / name).is_file()), None)
    if table is None and path.is_dir() and (path / "train").is_dir():
        table = next(
            (path / "train" / name for name in METADATA if (path / "train" / name).is_file()), None
        )
    if table is None:
        if options.asked:
            raise refuse(path, f"none of {', '.join(METADATA)}", _listing(path), HINT)
        return None
    return _table(table, options)


def open_jsonl(path: Place, options: Options) -> Source | None:
    """JSON lines with paths: a prompt with a picture, or with chosen and rejected, per line."""
    if path.is_dir():
        found = ordered(path.glob("*.jsonl"))
        own = path / f"{options.split or 'train'}.jsonl"
        path = own if own in found else found[0] if len(found) == 1 else path
    if not path.is_file() or path.suffix not in (".jsonl", ".ndjson"):
        if options.asked:
            raise refuse(path, "not one .jsonl file", _listing(path), HINT)
        return None
    return _table(path, options)


def _table(table: Place, options: Options) -> Source | None:
    """A table of paths that are relative to its own folder."""
    rows = _rows(table)
    names: dict[str, None] = {}
    for _, row in islice(rows(0), LOOKED_AT):
        names |= {} if isinstance(row, BadRow) else dict.fromkeys(row)
    layout = layout_of(list(names), [], options.column)
    if layout.missing:
        raise refuse(table, f"no column {', '.join(layout.missing)}", ", ".join(names) or "nothing", HINT)
    root = table.parent

    def picture(value: Any, column: str) -> bytes:
        return load(inside(root, value))

    return Source(
        root=root,
        files=(table,),
        judged_by="source",
        read=lambda start: entries(rows(start), partial(to_entry, layout, picture)),
    )


def _rows(table: Place) -> Callable[[int], Iterator[tuple[int, Any]]]:
    if table.suffix == ".parquet":
        return lambda start: rows_of([table], columns_of([table]), start)
    read = csv_rows if table.suffix == ".csv" else json_lines
    return lambda start: (item for item in read(table) if item[0] >= start)


def open_folders(path: Place, options: Options) -> Source | None:
    """Two folders, win and lose: files of one name are a pair; a .txt of that name holds the prompt.

    The layout of SimpleTuner's preference data.

    Source: https://github.com/bghira/SimpleTuner
    """
    sides = [_first(path, WINNERS), _first(path, LOSERS)]
    if sides[0] is None or sides[1] is None:
        if options.asked:
            wanted = f"no folder of {'/'.join(WINNERS)} and of {'/'.join(LOSERS)}"
            raise refuse(path, wanted, _listing(path), HINT)
        return None
    win, lose = (_pictures(side) for side in sides if side is not None)
    stems = sorted({*win, *lose})
    names = [" ".join(side[stem].name if stem in side else "/" for side in (win, lose)) for stem in stems]

    def pair(row: int, stem: str) -> Entry:
        gone = [name for name, side in (("winner", win), ("loser", lose)) if stem not in side]
        if gone:
            raise BadRow("missing_image", f"{stem[:200]!r} has no {gone[0]}")
        caption = inside(path, f"{win[stem].parent.name}/{stem}.txt", "")
        prompt = prompt_of(load(caption).decode("utf-8", "replace"))
        sides = (inside(path, f"{side[stem].parent.name}/{side[stem].name}") for side in (win, lose))
        pictures = tuple(Picture(load(file), f"{file.parent.name}/{file.name}"[:200]) for file in sides)
        return Entry(row, prompt, pictures, (Vote(0, 1, "a"),))

    return Source(
        root=path,
        files=(),
        judged_by="source",
        read=lambda start: entries(islice(enumerate(stems), start, None), pair),
        rows=len(stems),
        names=names,
    )


def _first(path: Place, names: tuple[str, ...]) -> Place | None:
    return next((path / name for name in names if (path / name).is_dir()), None)


def _pictures(folder: Place) -> dict[str, Place]:
    """File name without its suffix → picture; the first by name where two suffixes share it."""
    found: dict[str, Place] = {}
    for file in ordered(folder.iterdir()):
        if file.suffix.lower() in PICTURES and not file.name.startswith("."):
            found.setdefault(file.stem, file)
    return found


def _listing(path: Place) -> str:
    names = sorted(item.name for item in path.iterdir()) if path.is_dir() else [path.name]
    return ", ".join(names[:10]) or "nothing"

"""Pictures in folders: named by tables beside them, or as two folders of winners and losers."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

from rpo_cli.errors import UsageError
from rpo_cli.exchange.importers.sidecar import Found, caption_of
from rpo_cli.exchange.importers.tables import HINT, JSON, listing, of_tables
from rpo_cli.exchange.incoming import Entry, Options, Picture, Source, Vote, entries, load, ordered, refuse
from rpo_cli.exchange.places import Place, below
from rpo_cli.exchange.prompts import storable
from rpo_cli.exchange.raw_rows import BadRow

METADATA = tuple(f"metadata.{ending}" for ending in ("jsonl", "csv", "parquet", "json", "tsv", "ndjson"))
WINNERS = ("win", "w", "winner", "chosen", "preferred")
LOSERS = ("lose", "l", "loser", "rejected", "unpreferred")


def open_imagefolder(path: Place, options: Options) -> Source | None:
    """Image folders: metadata.jsonl, .csv, .json, .parquet or .tsv, one in each folder, name pictures.

    Source: https://huggingface.co/docs/hub/datasets-image
    """
    if not path.is_dir():
        if options.asked and path.suffix.lower() not in (*JSON, ".csv", ".tsv", ".parquet"):
            raise refuse(path, "no folder and no table", path.name, HINT)
        return of_tables([path], path.parent, options) if options.asked else None
    top, note = path, ""
    if options.split and _metadata(path / options.split):
        top = path / options.split
    elif options.split and _metadata(path):
        raise UsageError(
            f"{path}: no folder '{options.split}' with a table",
            f"it has: {listing(path)}",
        )
    elif not _metadata(path, deep=False) and _metadata(path / "train", deep=False):
        top = path / "train"
        others = [item.name for item in ordered(path.iterdir()) if item.is_dir() and item != top]
        note = f"reading split train; others ({', '.join(others)}): --split NAME" if others else ""
    tables = [] if options.split and top == path else _metadata(top)
    if not tables:
        if options.asked:
            raise refuse(path, f"none of {', '.join(METADATA)}", listing(path), HINT)
        return None
    beside = [table.parent / name for table in tables for name in METADATA if table.name != name]
    more = ", ".join(below(table, path) or table.name for table in beside if table.is_file())
    second = f"not read, since each folder has one table: {more}" if more else ""
    notes = "; ".join(filter(None, (note, second, _no_sides(top, tables))))
    return _noted(of_tables(tables, path, options, folder=True), notes)


def _no_sides(top: Place, tables: list[Place]) -> str:
    """What is to be said of folders of winners and losers whose pictures a table names."""
    win, lose = _side(top, WINNERS), _side(top, LOSERS)
    if win is None or lose is None:
        return ""
    said = (
        f"{win.name}/ and {lose.name}/ say nothing here, since {tables[0].name} tells what the pictures are"
    )
    return f"{said}; --format folders pairs them"


def _noted(source: Source, note: str) -> Source:
    return replace(source, note="; ".join(filter(None, (note, source.note))))


def _metadata(path: Place, *, deep: bool = True) -> list[Place]:
    """The tables of a folder and of those below it, the first kind of METADATA in each."""
    if not path.is_dir():
        return []
    found: dict[Place, Place] = {}
    for name in METADATA:
        places = path.rglob(name) if deep else [path / name]
        for table in places:
            if table.is_file():
                found.setdefault(table.parent, table)
    return ordered(found.values())


def open_jsonl(path: Place, options: Options) -> Source | None:
    """JSON lines with paths: a prompt with a picture, or with chosen and rejected, per line."""
    if path.is_dir():
        found = ordered(path.glob("*.jsonl"))
        own = path / f"{options.split or 'train'}.jsonl"
        path = own if own in found else found[0] if len(found) == 1 else path
    return _one_table(path, options, (".jsonl", ".ndjson"))


def open_table_of_paths(path: Place, options: Options) -> Source | None:
    """CSV, TSV or a JSON list with paths, also a folder's only one: a prompt, one picture or two a row."""
    if path.is_dir():
        found = [file for file in ordered(path.glob("*.*sv")) if file.suffix.lower() in (".csv", ".tsv")]
        path = found[0] if len(found) == 1 else path
    return _one_table(path, options, (".csv", ".tsv", ".json"))


def _one_table(path: Place, options: Options, endings: tuple[str, ...]) -> Source | None:
    if not path.is_file() or path.suffix.lower() not in endings:
        if options.asked:
            raise refuse(path, f"not one {' or '.join(endings)} file", listing(path), HINT)
        return None
    return of_tables([path], path.parent, options)


def open_folders(path: Place, options: Options) -> Source | None:
    """Two folders, win and lose: files of one name are a pair; a .txt of that name holds the prompt.

    The layout of SimpleTuner's preference data, also in folders inside; names without endings count.

    Source: https://github.com/bghira/SimpleTuner
    """
    top = path
    if not _side(path, WINNERS) and _side(path / "train", WINNERS):
        path = path / "train"
    sides = [_side(path, WINNERS), _side(path, LOSERS)]
    if sides[0] is None or sides[1] is None:
        if options.asked:
            wanted = f"no folder of {'/'.join(WINNERS)} and of {'/'.join(LOSERS)}"
            raise refuse(path, wanted, listing(path), HINT)
        return None
    win, lose = (Found.below(side, odd=True) for side in sides if side is not None)
    shared = Found.below(path).captions  # beside the two folders
    stems = sorted({*win.pictures, *lose.pictures})

    def pair(row: int, stem: str) -> Entry:
        gone = [name for name, side in (("winner", win), ("loser", lose)) if stem not in side.pictures]
        if gone:
            raise BadRow("missing_image", f"{stem[:200]!r} has no {gone[0]}")
        places = [found[stem] for found in (win.captions, lose.captions, shared) if stem in found]
        told = [caption_of(place, stem[:200], path, options) for place in places or [[]]]
        if len(set(told)) > 1:
            raise BadRow("doubled_name", f"{stem[:200]!r} has different captions: which of them is meant?")
        files = [side.one(stem) for side in (win, lose)]
        return Entry(
            row,
            told[0],
            tuple(Picture(load(file), _name(file, path)) for file in files),
            (Vote(0, 1, "a"),),
        )

    return Source(
        root=path,
        files=(),
        judged_by="source",
        read=lambda start: entries(islice(enumerate(stems), start, None), pair),
        rows=len(stems),
        names=[
            _all(stem, win.pictures, lose.pictures, win.captions, lose.captions, shared) for stem in stems
        ],
        note=f"reading {path.name}/" * (path != top),
        left=lambda: [*win.left_out(stems), *lose.left_out(stems)],
    )


def _name(file: Place, top: Place) -> str:
    return (below(file, top) or file.name)[:200]


def _all(stem: str, *found: Mapping[str, list[Place]]) -> str:
    """The names of all files of one name, place by place."""
    sides = [[file.name for file in one.get(stem, [])] for one in found]
    return storable(" ".join([stem, *("+".join(names) or "/" for names in sides)]))


def _side(path: Place, names: tuple[str, ...]) -> Place | None:
    """The folder of one side, in any case of letters."""
    known = {item.name.lower(): item for item in ordered(path.iterdir())} if path.is_dir() else {}
    return next((known[name] for name in names if name in known and known[name].is_dir()), None)

"""Pictures in folders: named by tables beside them, or as two folders of winners and losers."""

import unicodedata
from dataclasses import replace
from itertools import islice

from rpo_cli.exchange.importers.sidecar import CAPTIONS, Found, caption_of
from rpo_cli.exchange.importers.tables import HINT, JSON, listing, of_tables
from rpo_cli.exchange.incoming import (
    BadRow,
    Entry,
    Options,
    Picture,
    Place,
    Source,
    Vote,
    below,
    entries,
    load,
    ordered,
    refuse,
)
from rpo_cli.exchange.prompt_text import storable

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
    if options.split and (path / options.split).is_dir():
        top = path / options.split
    elif not _metadata(path, deep=False) and _metadata(path / "train", deep=False):
        top = path / "train"
        others = [item.name for item in ordered(path.iterdir()) if item.is_dir() and item != top]
        note = f"reading split train; others ({', '.join(others)}): --split NAME" if others else ""
    tables = _metadata(top)
    if not tables:
        if options.asked:
            raise refuse(path, f"none of {', '.join(METADATA)}", listing(path), HINT)
        return None
    return _noted(of_tables(tables, path, options, folder=True), note)


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
    """CSV, TSV or a JSON list with paths: a prompt with a picture, or with two, per row."""
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
    sides = [_first(path, WINNERS), _first(path, LOSERS)]
    if sides[0] is None or sides[1] is None:
        if options.asked:
            wanted = f"no folder of {'/'.join(WINNERS)} and of {'/'.join(LOSERS)}"
            raise refuse(path, wanted, listing(path), HINT)
        return None
    win, lose = (Found.below(side, odd=True) for side in sides if side is not None)
    shared = _shared(path)
    stems = sorted({*win.pictures, *lose.pictures})

    def pair(row: int, stem: str) -> Entry:
        gone = [name for name, side in (("winner", win), ("loser", lose)) if stem not in side.pictures]
        if gone:
            raise BadRow("missing_image", f"{stem[:200]!r} has no {gone[0]}")
        caption = win.captions.get(stem) or lose.captions.get(stem) or shared.get(stem)
        prompt = caption_of(caption, stem[:200], options)
        files = [side.one(stem) for side in (win, lose)]
        return Entry(
            row, prompt, tuple(Picture(load(file), _name(file, path)) for file in files), (Vote(0, 1, "a"),)
        )

    return Source(
        root=path,
        files=(),
        judged_by="source",
        read=lambda start: entries(islice(enumerate(stems), start, None), pair),
        rows=len(stems),
        names=[_both(stem, win, lose) for stem in stems],
        left=lambda: [*win.told(stems), *lose.told(stems)],
    )


def _shared(path: Place) -> dict[str, list[Place]]:
    """Captions that stand beside the two folders."""
    return {
        unicodedata.normalize("NFC", file.stem): [file]
        for file in ordered(path.iterdir())
        if file.suffix.lower() in CAPTIONS and file.is_file()
    }


def _name(file: Place, top: Place) -> str:
    return (below(file, top) or file.name)[:200]


def _both(stem: str, win: Found, lose: Found) -> str:
    sides = [[file.name for file in side.pictures.get(stem, [])] for side in (win, lose)]
    return storable(" ".join([stem, *("+".join(names) or "/" for names in sides)]))


def _first(path: Place, names: tuple[str, ...]) -> Place | None:
    return next((path / name for name in names if (path / name).is_dir()), None)

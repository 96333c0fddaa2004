"""Pictures in folders: named by tables, beside their captions, by class, as winners and losers."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import PurePath
from typing import Any

from rpo_cli.exchange.importers.tables import HINT, JSON, of_tables
from rpo_cli.exchange.incoming import (
    PICTURES,
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
    prompt_of,
    refuse,
    text_of,
)
from rpo_cli.exchange.prompt_text import storable

METADATA = tuple(f"metadata.{ending}" for ending in ("jsonl", "csv", "parquet", "json", "tsv", "ndjson"))
WINNERS = ("win", "w", "winner", "chosen", "preferred")
LOSERS = ("lose", "l", "loser", "rejected", "unpreferred")
CAPTIONS = (".txt", ".caption")


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
    source = of_tables(tables, top, options, folder=True)
    return _noted(source, note)


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


# --- captions beside pictures --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Pictures and captions of a folder and those below it, by path without the ending; and the rest."""

    pictures: dict[str, list[Place]]
    captions: dict[str, list[Place]]
    others: int

    @classmethod
    def below(cls, top: Place) -> "_Found":
        pictures: dict[str, list[Place]] = {}
        captions: dict[str, list[Place]] = {}
        others = 0
        for file in ordered(file for file in top.rglob("*") if file.is_file()):
            name = below(file, top)
            if name is None or any(part.startswith((".", "__MACOSX")) for part in PurePath(name).parts):
                continue
            stem = unicodedata.normalize("NFC", name[: len(name) - len(file.suffix)])
            ending = file.suffix.lower()
            if ending in PICTURES:
                pictures.setdefault(stem, []).append(file)
            elif ending in CAPTIONS:
                captions.setdefault(stem, []).append(file)
            else:
                others += 1
        return cls(pictures, captions, others)

    def one(self, stem: str) -> Place:
        """The picture of a name.

        Raises:
            BadRow: there are several, or none.
        """
        found = self.pictures.get(stem, [])
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise BadRow("doubled_name", f"{names}: which of these is meant?")
        if not found:
            raise BadRow("missing_image", f"{stem[:200]!r}: no picture of this name")
        return found[0]

    def told(self, used: Sequence[str]) -> list[str]:
        """What was left out, in words."""
        lone = len(self.captions.keys() - set(used))
        said = [
            (lone, "captions without a picture"),
            (self.others, "files that are no pictures or captions"),
        ]
        return [f"{count:,} {what} were left out" for count, what in said if count]


def _prompt(captions: Sequence[Place] | None, name: str, options: Options) -> str:
    if not captions:
        raise BadRow("no_prompt", f"{name}: no {' or '.join(CAPTIONS)} of this name")
    if len(captions) > 1:
        raise BadRow(
            "doubled_name", f"{', '.join(file.name for file in captions)}: which of these is meant?"
        )
    return prompt_of(text_of(load(captions[0]), captions[0].name, options.encoding))


def open_sidecar(path: Place, options: Options) -> Source | None:
    """Pictures with a .txt or .caption of the same name beside each, in folders of any depth.

    The layout of kohya's scripts and most captioning tools.

    Source: https://github.com/kohya-ss/sd-scripts
    """
    found = _Found.below(path) if path.is_dir() else _Found({}, {}, 0)
    if not found.pictures or not found.captions.keys() & found.pictures.keys():
        if options.asked:
            raise refuse(path, "no picture with a .txt or .caption of its name", listing(path), HINT)
        return None

    def picture(row: int, stem: str) -> Entry:
        file = found.one(stem)
        prompt = _prompt(found.captions.get(stem), file.name, options)
        return Entry(row, prompt, (Picture(load(file), stem[:200]),))

    return _by_name(path, found, sorted(found.pictures), picture)


def open_classes(path: Place, options: Options) -> Source | None:
    """Folders of pictures whose names are the prompts; only where --format says so."""
    found = _Found.below(path) if path.is_dir() else _Found({}, {}, 0)
    folders = Counter(stem.rpartition("/")[0].rpartition("/")[2] for stem in found.pictures)
    if not folders or "" in folders:
        if options.asked:
            raise refuse(path, "no folders with pictures in them alone", listing(path), HINT)
        return None
    if not options.asked:
        return None

    def picture(row: int, stem: str) -> Entry:
        prompt = prompt_of(stem.rpartition("/")[0].rpartition("/")[2])
        return Entry(row, prompt, (Picture(load(found.one(stem)), stem[:200]),))

    return _by_name(path, found, sorted(found.pictures), picture)


def looks_like_classes(path: Place) -> bool:
    """Whether a folder holds nothing but folders of pictures without captions."""
    found = _Found.below(path) if path.is_dir() else _Found({}, {}, 0)
    return bool(found.pictures) and not found.captions and all("/" in stem for stem in found.pictures)


def _by_name(path: Place, found: _Found, stems: list[str], make: Any) -> Source:
    names = [
        " ".join(file.name for file in [*found.pictures.get(stem, []), *found.captions.get(stem, [])])
        for stem in stems
    ]
    return Source(
        root=path,
        files=(),
        judged_by="source",
        read=lambda start: entries(islice(enumerate(stems), start, None), make),
        rows=len(stems),
        names=[storable(f"{stem} {name}") for stem, name in zip(stems, names, strict=True)],
        left=lambda: found.told(stems),
    )


# --- winners and losers --------------------------------------------------------------------------------


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
    win, lose = (_Found.below(side) for side in sides if side is not None)
    shared = _shared(path)
    stems = sorted({*win.pictures, *lose.pictures})

    def pair(row: int, stem: str) -> Entry:
        gone = [name for name, side in (("winner", win), ("loser", lose)) if stem not in side.pictures]
        if gone:
            raise BadRow("missing_image", f"{stem[:200]!r} has no {gone[0]}")
        caption = win.captions.get(stem) or lose.captions.get(stem) or shared.get(stem)
        prompt = _prompt(caption, stem[:200], options)
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


def _both(stem: str, win: _Found, lose: _Found) -> str:
    sides = [[file.name for file in side.pictures.get(stem, [])] for side in (win, lose)]
    return storable(" ".join([stem, *("+".join(names) or "/" for names in sides)]))


def _first(path: Place, names: tuple[str, ...]) -> Place | None:
    return next((path / name for name in names if (path / name).is_dir()), None)


def listing(path: Place) -> str:
    """The first names of a folder, for errors."""
    names = sorted(item.name for item in path.iterdir()) if path.is_dir() else [path.name]
    return ", ".join(names[:10]) or "nothing"

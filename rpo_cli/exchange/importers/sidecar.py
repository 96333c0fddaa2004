"""Pictures beside their captions, or in folders whose names are their captions."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

from rpo_cli.exchange.importers.tables import HINT, listing
from rpo_cli.exchange.incoming import (
    PICTURES,
    Entry,
    Options,
    Picture,
    Source,
    entries,
    load,
    ordered,
    own,
    prompt_of,
    refuse,
    text_of,
)
from rpo_cli.exchange.places import Place, below
from rpo_cli.exchange.prompts import storable
from rpo_cli.exchange.raw_rows import BadRow
from rpo_cli.pictures import ENDINGS, OTHERS

CAPTIONS = (".txt", ".caption")


@dataclass(frozen=True)
class Found:
    """Pictures and captions of a folder and those below it, by path without the ending; and the rest."""

    top: Place
    pictures: dict[str, list[Place]]
    captions: dict[str, list[Place]]
    others: int = 0
    links: int = 0  # folders that are links, which are not followed

    @classmethod
    def below(cls, top: Place, *, odd: bool = False) -> "Found":
        """What lies in a folder and those below it.

        Args:
            odd: what shows something and is no picture that is read (a drawing, a video) counts as one, so
                that its row says so; else only where it has a caption.
        """
        pictures: dict[str, list[Place]] = {}
        captions: dict[str, list[Place]] = {}
        others_shown: dict[str, Place] = {}
        others = 0
        for file in ordered(file for file in top.rglob("*") if file.is_file()):
            name = below(file, top)
            if name is None or any(part.startswith((".", "__MACOSX")) for part in PurePath(name).parts):
                continue
            stem = unicodedata.normalize("NFC", name[: len(name) - len(file.suffix)])
            ending = file.suffix.lower()
            if ending in OTHERS:
                others_shown.setdefault(stem, file)
            elif ending in PICTURES:
                pictures.setdefault(stem, []).append(file)
            elif ending in CAPTIONS:
                captions.setdefault(stem, []).append(file)
            else:
                others += 1
        for stem, file in others_shown.items():
            if stem not in pictures and (odd or stem in captions):
                pictures[stem] = [file]
            else:
                others += 1
        links = sum(folder.is_symlink() for folder in top.rglob("*/")) if isinstance(top, Path) else 0
        return cls(top, pictures, captions, others, links)

    def one(self, stem: str) -> Place:
        """The picture of a name.

        Raises:
            BadRow: there are several, or none.
        """
        found = self.pictures.get(stem, [])
        seen = [file for file in found if file.suffix.lower() in ENDINGS]
        found = seen or found[:1]
        if len(found) > 1:
            names = ", ".join(file.name for file in found)
            raise BadRow("doubled_name", f"{names}: which of these is meant?")
        if not found:
            raise BadRow("missing_image", f"{stem[:200]!r}: no picture of this name")
        return own(found[0], self.top)

    def left_out(self, used: Sequence[str]) -> list[str]:
        """What was left out, in words."""
        lone = len(self.captions.keys() - set(used))
        said = [
            (lone, "captions without a picture"),
            (self.others, "files that are no pictures or captions"),
            (self.links, "folders that are links"),
        ]
        return [f"{count:,} {what} were left out" for count, what in said if count]


def caption_of(captions: Sequence[Place], name: str, root: Place, options: Options) -> str:
    """The prompt that stands in the one caption of a picture.

    Raises:
        BadRow: there is none, there are several, or it is no prompt.
    """
    if not captions:
        raise BadRow("no_prompt", f"{name}: no {' or '.join(CAPTIONS)} of this name")
    if len(captions) > 1:
        raise BadRow(
            "doubled_name", f"{', '.join(file.name for file in captions)}: which of these is meant?"
        )
    return prompt_of(text_of(load(own(captions[0], root)), captions[0].name, options.encoding))


def open_sidecar(path: Place, options: Options) -> Source | None:
    """Pictures with a .txt or .caption of the same name beside each, in folders of any depth.

    The layout of kohya's scripts and most captioning tools.

    Source: https://github.com/kohya-ss/sd-scripts
    """
    found = Found.below(path) if path.is_dir() else Found(path, {}, {})
    if not found.pictures or not found.captions.keys() & found.pictures.keys():
        if options.asked:
            raise refuse(path, "no picture with a .txt or .caption of its name", listing(path), HINT)
        return None

    def picture(row: int, stem: str) -> Entry:
        file = found.one(stem)
        prompt = caption_of(found.captions.get(stem, []), file.name, path, options)
        return Entry(row, prompt, (Picture(load(file), stem[:200], name=file.name),))

    return _by_name(path, found, sorted(found.pictures), picture)


def open_classes(path: Place, options: Options) -> Source | None:
    """Folders of pictures whose names are the prompts; only where --format says so."""
    found = Found.below(path) if path.is_dir() else Found(path, {}, {})
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
    found = Found.below(path) if path.is_dir() else Found(path, {}, {})
    return bool(found.pictures) and not found.captions and all("/" in stem for stem in found.pictures)


def _by_name(path: Place, found: Found, stems: list[str], make: Any) -> Source:
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
        left=lambda: found.left_out(stems),
    )

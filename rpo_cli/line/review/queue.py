"""Which pairs a reviewer is shown, in what order and on which side; their pictures, encoded alike."""

import hashlib
import hmac
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from PIL.Image import Image as Picture
from PIL.Image import Resampling

from rpo_cli.errors import CorruptImage, disk_errors
from rpo_cli.files import create, draft_of, make_folder, sync
from rpo_cli.pictures import decode, encode_png
from rpo_cli.records import EDITED, Edit, Image
from rpo_cli.stages.verdicts import Subject, subject
from rpo_cli.store import Store

GAP = 20  # showings between a pair and its repeat
KEY = "review.key"


Place = tuple[Subject, bool]  # a showing: what it shows, and whether it is the repeat


@dataclass(frozen=True)
class Showing:
    """A pair as it is shown: `token` names it in the page, and tells nothing of it."""

    pair_id: str
    prompt_id: str
    prompt: str
    edited: bool
    a_id: str
    b_id: str
    a_sha256: str
    b_sha256: str
    left: Literal["a", "b"]
    repeat: bool
    token: str

    @cached_property
    def about(self) -> Subject:
        return self.prompt_id, frozenset((self.a_sha256, self.b_sha256))

    @cached_property
    def place(self) -> Place:
        return self.about, self.repeat


@dataclass(frozen=True)
class Blind:
    """Tokens and sides, by a secret key and the reviewer's name."""

    key: bytes
    reviewer: str

    def token(self, *parts: str) -> str:
        """32 hex digits that only this key makes."""
        said = "\0".join((self.reviewer, *parts)).encode()
        return hmac.new(self.key, said, hashlib.sha256).hexdigest()[:32]

    def showing(self, row: Mapping[str, Any], *, repeat: bool) -> Showing:
        """A row of `pairs` on its sides: a fair coin thrown by the pictures, turned at a repeat."""
        first, second = sorted((row["a_sha256"], row["b_sha256"]))
        pictures = (row["prompt_id"], first, second)
        heads = int(self.token("side", *pictures)[-1], 16) % 2 == 0
        left = first if heads != repeat else second
        return Showing(
            pair_id=row["pair_id"],
            prompt_id=row["prompt_id"],
            prompt=row["prompt"],
            edited=row["pair_kind"] in EDITED,
            a_id=row["a_id"],
            b_id=row["b_id"],
            a_sha256=row["a_sha256"],
            b_sha256=row["b_sha256"],
            left="a" if left == row["a_sha256"] else "b",
            repeat=repeat,
            token=self.token("pair", *pictures, "again" if repeat else "first"),
        )


def queue(
    rows: Iterable[Mapping[str, Any]], blind: Blind, *, limit: int | None, repeat: float
) -> list[Showing]:
    """Every showing in order.

    Order and repeats hang on the pictures alone, so all reviewers begin with the same pairs and can be
    compared. A repeat comes GAP showings later, or at the end, and never right after its pair.

    Args:
        rows: light columns of `pairs`, each subject once.
        limit: the first so many pairs; repeats come on top.
        repeat: share of pairs that are shown twice, in [0, 1].
    """
    chosen = sorted(rows, key=lambda row: _draw("order", subject(row)))[:limit]
    drawn = sorted(chosen[:-1], key=lambda row: _draw("repeats", subject(row)))
    twice = {subject(row) for row in drawn[: round(repeat * len(chosen))]}
    places = [(place, blind.showing(row, repeat=False)) for place, row in enumerate(chosen)]
    places += [
        (place + GAP, blind.showing(row, repeat=True))
        for place, row in enumerate(chosen)
        if subject(row) in twice
    ]
    return [showing for _, showing in sorted(places, key=lambda item: (item[0], item[1].repeat))]


def other(side: Literal["a", "b"]) -> Literal["a", "b"]:
    """The other side of a pair."""
    return "b" if side == "a" else "a"


def _draw(what: str, about: Subject) -> bytes:
    text = "\0".join((about[0], *sorted(about[1])))
    return hashlib.blake2b(text.encode(), key=f"rpo review: {what}".encode(), digest_size=16).digest()


def counted(rows: Sequence[Mapping[str, Any]], judged: Iterable[Subject]) -> list[Mapping[str, Any]]:
    """The pairs to judge: accepted ones, and those that somebody has judged already; each subject once."""
    known = set(judged)
    found: dict[Subject, Mapping[str, Any]] = {}
    for row in sorted(rows, key=lambda row: str(row["pair_id"])):
        about = subject(row)
        if len(about[1]) == 2 and (row["verdict"] == "accepted" or about in known):
            found.setdefault(about, row)
    return list(found.values())


def secret(folder: Path) -> bytes:
    """The run's review key, made at first use, readable by its owner only.

    Without it sides are thrown anew and pages that are open in a browser have to be loaded again.

    Raises:
        StorageError: it cannot be written.
    """
    path = folder / KEY
    with disk_errors(str(path)):
        make_folder(folder)
        if not path.exists():
            draft = draft_of(path)
            with create(draft, 0o600) as file:
                file.write(os.urandom(32))
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):  # another reviewer's process was quicker: its key counts
                os.link(draft, path)
            draft.unlink()
            sync(folder)
        return path.read_bytes()


PLACES = ("left", "right")
STRETCH = 1.1  # sizes whose shapes differ by less are brought to one size
KEPT = 16  # pictures in memory
PLAIN = 0  # no compression: an edit's file is often the longer one, and a browser tells lengths


@dataclass
class ShownPicture:
    """Pictures by token, read when they are asked for; may be asked by several threads."""

    store: Store
    blind: Blind
    _showings: dict[str, Showing] = field(default_factory=dict)  # token of a picture → its showing
    _encoded: "OrderedDict[str, bytes]" = field(default_factory=OrderedDict)
    _guard: threading.RLock = field(default_factory=threading.RLock)

    def add(self, showings: Iterable[Showing]) -> None:
        """Make pictures known. They stay known when their pair leaves the run."""
        for showing in showings:
            for place in PLACES:
                self._showings[self.token(showing, place)] = showing

    def token(self, showing: Showing, place: str) -> str:
        """Names a picture by where it stands, so that equal pictures have other names in other places."""
        return self.blind.token("picture", showing.token, place)

    def get(self, token: str) -> bytes | None:
        """A PNG without metadata, its length told by its size; None: gone from the run, or unreadable."""
        with self._guard:
            if token not in self._showings:
                return None
            if token not in self._encoded:
                self._load(self._showings[token])
            if token in self._encoded:
                self._encoded.move_to_end(token)
            while len(self._encoded) > KEPT:
                self._encoded.popitem(last=False)
            return self._encoded.get(token)

    def whole(self, showing: Showing) -> bool:
        """Whether both pictures can be shown; they are in memory then."""
        return all(self.get(self.token(showing, place)) for place in PLACES)

    def _load(self, showing: Showing) -> None:
        left, right = (self._read(showing, side) for side in (showing.left, other(showing.left)))
        for place, picture in zip(PLACES, alike(left, right), strict=True):
            if picture is not None:
                self._encoded[self.token(showing, place)] = encode_png(picture, PLAIN)

    def _read(self, showing: Showing, side: Literal["a", "b"]) -> Picture | None:
        key = showing.a_id if side == "a" else showing.b_id
        table = "edits" if side == "b" and showing.edited else "images"
        for row in self.store.fetch(table, {key}):
            assert isinstance(row, Image | Edit)
            try:
                return decode(row.image.bytes)
            except CorruptImage:
                return None
        return None


def alike(left: Picture | None, right: Picture | None) -> tuple[Picture | None, Picture | None]:
    """Two pictures of one size: an editor rounds sizes, and a size would tell the edit.

    The larger is brought down; pictures of truly different shape stay as they are.
    """
    if left is None or right is None or left.size == right.size:
        return left, right
    size = min(left.width, right.width), min(left.height, right.height)
    stretched = [p.width * size[1] / (p.height * size[0]) for p in (left, right)]
    if all(1 / STRETCH < factor < STRETCH for factor in stretched):
        return left.resize(size, Resampling.LANCZOS), right.resize(size, Resampling.LANCZOS)
    return left, right

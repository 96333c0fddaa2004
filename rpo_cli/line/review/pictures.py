"""The pictures of a review: named by their place alone, encoded alike, of one size."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from PIL.Image import Image as Picture
from PIL.Image import Resampling

from rpo_cli.errors import CorruptImage
from rpo_cli.line.review.queue import Blind, Showing, other
from rpo_cli.pictures import decode, encode_png
from rpo_cli.records import Edit, Image
from rpo_cli.store import Store

PLACES = ("left", "right")
STRETCH = 1.1  # sizes whose shapes differ by less are brought to one size
KEPT = 16  # pictures in memory
PLAIN = 0  # no compression: an edit's file is often the longer one, and a browser tells lengths


@dataclass
class Shown:
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

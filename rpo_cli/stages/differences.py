"""How much two pictures differ: the values that the gates of `build-pairs` look at.

A value is measured once and kept as a column; thresholds come later and may change without a new look
at the pictures.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rpo_cli.errors import CorruptImage
from rpo_cli.pictures import decode, to_array

Pixels = NDArray[np.uint8]
HASH_SIDE = 8
GREY_SIDE = 32


@dataclass(frozen=True)
class Difference:
    """Of a pair: mean absolute pixel difference in [0, 1], Hamming distance of hashes in [0, 64].

    `floor`: the change that the editor of side b makes by itself (`edit.py`); None: not known, or no edit.
    """

    change: float
    hash_distance: int
    floor: float | None = None


class Shelf(Protocol):
    def __getitem__(self, sha256: str) -> bytes:
        """The encoded picture with this hash."""


def measure(pairs: Iterable[tuple[str, str]], shelf: Shelf) -> Iterator[Difference | None]:
    """One value per pair of hashes, in order; None where a picture cannot be read.

    Two pictures are in memory at a time.
    """
    for first, second in pairs:
        try:
            a, b = (to_array(decode(shelf[key], key)) for key in (first, second))
        except CorruptImage:
            yield None
            continue
        distance = (perceptual_hash(a) ^ perceptual_hash(b)).bit_count()
        yield Difference(mean_absolute_difference(a, b), distance)


def mean_absolute_difference(a: Pixels, b: Pixels) -> float:
    """Mean of |a - b| over pixels and channels, in [0, 1]; b is brought to a's size if it has another."""
    if a.shape != b.shape:
        height, width = a.shape[:2]
        b = np.asarray(Image.fromarray(b).resize((width, height), Image.Resampling.BICUBIC))
    return float(np.mean(np.abs(a.astype(np.int16) - b.astype(np.int16))) / 255)


def perceptual_hash(pixels: Pixels) -> int:
    """64-bit pHash: low frequencies of a small grey copy, each a bit "above the median" (Zauner 2010).

    The picture becomes 32x32 grey; of its two-dimensional DCT the 8x8 lowest frequencies are compared
    with their median. Row by row, the constant term is the highest bit.
    """
    from scipy.fft import dctn  # half of what a finished command would load

    grey = Image.fromarray(pixels).convert("L").resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS)
    spectrum = dctn(np.asarray(grey, dtype=np.float64), norm="ortho")[:HASH_SIDE, :HASH_SIDE]
    low = np.round(spectrum, 6)  # a flat picture's zeros come out as ±1e-14, which would be random bits
    bits = np.packbits((low > np.median(low)).ravel())
    return int.from_bytes(bits.tobytes(), "big")

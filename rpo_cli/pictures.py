"""Encoded pictures in and out: one safe decode and one deterministic encode for the whole package.

Safe means: three formats, a bound on bytes and on pixels that is checked before any pixel is decoded,
and one error class for whatever else is wrong with the bytes. Nothing here changes Pillow's globals.
"""

import hashlib
import io
import struct
import zlib

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.Image import Image as Picture

from rpo_cli.errors import CorruptImage

MAX_PIXELS = 40_000_000
MAX_BYTES = 256_000_000
FORMATS = ("PNG", "JPEG", "WEBP")
# "I;16", "I" and "F" are left out: Pillow clips them to white instead of scaling them
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
BROKEN = (OSError, ValueError, SyntaxError, LookupError, EOFError, TypeError, struct.error, zlib.error)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
PNG_LEVEL = 6


def decode(data: bytes, where: str = "picture") -> Picture:
    """Encoded bytes to an RGB picture, upright (EXIF orientation applied), transparency over white.

    Args:
        data: a PNG, JPEG or WebP file; of an animation the first frame counts.
        where: what the bytes are, for the error message: a path or a row's id.

    Raises:
        CorruptImage: another format, more than MAX_BYTES or MAX_PIXELS, or broken bytes.
    """
    if len(data) > MAX_BYTES:
        raise CorruptImage(f"{where}: {len(data):,} bytes, more than {MAX_BYTES:,}", _HINT)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
            width, height = opened.size
            if width * height > MAX_PIXELS:
                raise CorruptImage(f"{where}: {width} x {height} pixels, more than {MAX_PIXELS:,}", _HINT)
            if opened.mode not in MODES:
                raise CorruptImage(f"{where}: pixels of mode {opened.mode}, not 8 bits a channel", _HINT)
            return _rgb(ImageOps.exif_transpose(opened))
    except BOMB as error:
        raise CorruptImage(f"{where}: more than {MAX_PIXELS:,} pixels", _HINT) from error
    except UnidentifiedImageError as error:  # its own text holds a memory address
        raise CorruptImage(f"{where}: not a PNG, JPEG or WebP picture", _HINT) from error
    except BROKEN as error:
        raise CorruptImage(f"{where}: broken picture ({type(error).__name__}: {error})", _HINT) from error


_HINT = "give a whole PNG, JPEG or WebP file of at most 40 megapixels"


def _rgb(picture: Picture) -> Picture:
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")


def encode_png(picture: Picture, level: int = PNG_LEVEL) -> bytes:
    """An RGB PNG at a fixed compression level and without metadata: equal pixels give equal bytes.

    Args:
        level: 0 to 9; at 0 pictures of one size have files of one length.
    """
    clean = Image.fromarray(
        to_array(picture)
    )  # a copy without `info`, whose colour profile Pillow would write
    buffer = io.BytesIO()
    clean.save(buffer, format="PNG", compress_level=level)
    return buffer.getvalue()


def to_array(picture: Picture) -> NDArray[np.uint8]:
    """Pixels as (H, W, 3) uint8."""
    return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def sha256(data: bytes) -> str:
    """64 hex digits; of encoded bytes, not of pixels."""
    return hashlib.sha256(data).hexdigest()

"""Encoded pictures in and out: one safe decode and one deterministic encode for the whole package.

Safe means: few formats, a bound on bytes and on pixels that is checked before any pixel is decoded, and one
error class for whatever else is wrong with the bytes. Nothing here changes Pillow's globals. Colours come
out as sRGB (`colours.py`), whatever profile a file carries.
"""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.Image import Image as Picture

from rpo_cli.colours import BARE, UNREADABLE, BadProfile, Colours, colours_of
from rpo_cli.errors import CorruptImage, OtherFormat
from rpo_cli.installing import package
from rpo_cli.picture_formats import ASKED, HEIF, READ, format_of

MAX_PIXELS = 40_000_000
MAX_BYTES = 256_000_000
# "I;16", "I" and "F" are left out: Pillow clips them to white instead of scaling them
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
DEEP = ("I", "F")  # begin the modes of more than 8 bits
BROKEN = (
    *(OSError, ValueError, SyntaxError, LookupError, EOFError, TypeError, RuntimeError, ArithmeticError),
    *(struct.error, zlib.error),
)
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
PNG_LEVEL = 6
# of a TIFF's first picture
NEW_SUBFILE_TYPE, TILE_WIDTH, TILE_LENGTH, DNG_VERSION = 254, 322, 323, 50706
_HINT = f"give a whole file of at most 40 megapixels: {ASKED}"


@dataclass(frozen=True)
class Decoded:
    """A picture as the models see it: RGB, sRGB, upright, transparency over white.

    Attributes:
        profile: name of the other colour profile that it was converted from; `colours.UNREADABLE`: its
            profile cannot be read, and the pixels are the file's own; `colours.BARE`: of CMYK, it has
            none; None: the pixels are the file's own.
        several: the file holds more than this first one: frames or pages.
    """

    picture: Picture
    profile: str | None
    several: bool


def decode(data: bytes, where: str = "picture") -> Picture:
    """Encoded bytes to an RGB picture in sRGB, upright (EXIF orientation applied), transparency over white.

    Args:
        data: a file of a format that is read; of an animation the first frame counts.
        where: what the bytes are, for the error message: a path or a row's id.

    Raises:
        CorruptImage: more than MAX_BYTES or MAX_PIXELS, or broken bytes; OtherFormat, one of these errors,
            where the format is not read.
        MissingDependency: there is a colour profile, and Pillow was built without LittleCMS.
    """
    return read(data, where).picture


def read(data: bytes, where: str = "picture") -> Decoded:
    """As `decode`, with what was done to the picture on the way."""
    with _opened(data, where) as opened:
        profile, colours = _colours(opened, data)
        upright = ImageOps.exif_transpose(opened)
        picture = _rgb(upright) if colours is None else _converted(upright, colours)
        # a phone's JPEG with a preview or a gain map beside the picture (MPO) is one picture to everybody
        several = bool(getattr(opened, "is_animated", False)) and opened.format != "MPO"
        return Decoded(picture, profile, several)


def profile_of(data: bytes) -> str | None:
    """What `read` says of a picture's profile, without decoding its pixels.

    Raises:
        CorruptImage: as `read`, as far as the beginning of the file tells.
    """
    with _opened(data, "picture") as opened:
        return _colours(opened, data)[0]


@contextmanager
def _opened(data: bytes, where: str) -> Iterator[Picture]:
    """The picture with its bounds checked and no pixel decoded; what goes wrong inside is CorruptImage."""
    if len(data) > MAX_BYTES:
        raise CorruptImage(f"{where}: {len(data):,} bytes, more than {MAX_BYTES:,}", _HINT)
    name = format_of(data)
    if name not in (*READ, HEIF):
        known = f"{name}, " if name else ""
        error = OtherFormat if name and data else CorruptImage
        raise error(f"{where}: {known}not a picture that is read ({ASKED})", _HINT)
    try:
        with _open(data, name, where) as opened:
            _bounded(opened, where)
            yield opened
    except BOMB as error:
        raise CorruptImage(f"{where}: more than {MAX_PIXELS:,} pixels", _HINT) from error
    except UnidentifiedImageError as error:  # its own text holds a memory address
        raise CorruptImage(f"{where}: broken {name}, or of a kind that is not read", _HINT) from error
    except BROKEN as error:
        raise CorruptImage(f"{where}: broken {name} ({type(error).__name__}: {error})", _HINT) from error


def _open(data: bytes, name: str, where: str) -> Picture:
    if name in READ:
        if name in ("WebP", "AVIF") and not features.check(name.lower()):
            raise OtherFormat(
                f"{where}: {name}, which this Pillow was built without", package("--upgrade", "pillow")
            )
        return Image.open(io.BytesIO(data), formats=(READ[name],))
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        hint = package("pillow-heif")
        raise OtherFormat(f"{where}: {HEIF}, which is read once pillow-heif is installed", hint) from error
    picture: Picture = HeifImageFile(io.BytesIO(data))  # itself, so that nothing is registered in Pillow
    return picture


def _bounded(opened: Picture, where: str) -> None:
    """What is told before pixels are decoded.

    Raises:
        CorruptImage: too large, or no picture of 8 bits a channel.
    """
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise CorruptImage(f"{where}: {width} x {height} pixels, more than {MAX_PIXELS:,}", _HINT)
    if opened.mode.startswith(DEEP):
        raise CorruptImage(f"{where}: pixels of mode {opened.mode}, not 8 bits a channel", _HINT)
    if opened.mode not in MODES:
        raise CorruptImage(f"{where}: pixels of mode {opened.mode}, which is not read", _HINT)
    tags = getattr(opened, "tag_v2", None)
    if opened.format == "TIFF" and tags is not None:
        kind, wide, high = (tags.get(tag, 0) for tag in (NEW_SUBFILE_TYPE, TILE_WIDTH, TILE_LENGTH))
        if DNG_VERSION in tags or kind & 1:
            raise OtherFormat(f"{where}: a camera's raw picture with a preview, not read ({ASKED})", _HINT)
        if wide * high > MAX_PIXELS:
            raise CorruptImage(f"{where}: tiles of {wide} x {high}, more than {MAX_PIXELS:,} pixels", _HINT)


def _colours(opened: Picture, data: bytes) -> tuple[str | None, Colours | None]:
    """The profile's name as in `Decoded`, and how to convert."""
    try:
        colours = colours_of(opened, data)
    except BadProfile:
        return UNREADABLE, None
    if colours is None:
        return BARE if opened.mode == "CMYK" else None, None
    return colours.name, colours


def _rgb(picture: Picture) -> Picture:
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return picture.convert("RGB")


def _converted(picture: Picture, colours: Colours) -> Picture:
    """As `_rgb`, the colours converted before anything lies over white."""
    seen = colours.convert(picture.convert(colours.mode))
    if picture.has_transparency_data:
        seen.putalpha(picture.convert("RGBA").getchannel("A"))
    return _rgb(seen)


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

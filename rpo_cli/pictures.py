"""Encoded pictures in and out: formats told by their bytes, one safe decode, one deterministic encode; and
how much two pictures differ.

Sources: the formats' own specifications; brands of ISO media files: https://mp4ra.org, HEIF: ISO 23008-12,
AVIF: https://aomediacodec.github.io/av1-avif.
"""

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features
from PIL.Image import Image as Picture

from rpo_cli.colours import BARE, DECODING, UNREADABLE, BadProfile, Colours, colours_of
from rpo_cli.errors import CorruptImage, OtherFormat
from rpo_cli.installing import package

# name, as users write it → Pillow's; HEIF needs the plugin pillow-heif, which registers nothing
READ = {
    "PNG": "PNG",
    "JPEG": "JPEG",
    "WebP": "WEBP",
    "TIFF": "TIFF",
    "BMP": "BMP",
    "GIF": "GIF",
    "AVIF": "AVIF",
}
HEIF = "HEIF"
# of files that may be pictures of these formats; what they are is told by their bytes
ENDINGS = (
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".bmp", ".gif"),
    *(".avif", ".avifs", ".heic", ".heif", ".hif"),
)
# of files that show something and are not read: where pictures are looked for, each is a row that says so
OTHERS = (
    *(".svg", ".svgz", ".psd", ".psb", ".xcf", ".pdf", ".eps", ".ai", ".jxl", ".jp2", ".j2k", ".jpx"),
    *(".ico", ".icns", ".tga", ".exr", ".hdr", ".dds", ".qoi", ".ppm", ".pgm", ".pbm", ".pnm", ".pcx"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".wmf", ".emf", ".bpg", ".mng"),
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg"),
)
ASKED = f"{', '.join(READ)}, or HEIF where pillow-heif is installed"

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"8BPS", "Photoshop (PSD)"),
    (b"gimp xcf", "GIMP (XCF)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript (EPS)"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"\0\0\2\0", "a cursor (CUR)"),
    (b"icns", "an icon (ICNS)"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"DDS ", "DDS"),
    (b"qoif", "QOI"),
    (b"\x8aMNG\r\n\x1a\n", "MNG"),
    (b"BPG\xfb", "BPG"),
    (b"FUJIFILMCCD-RAW", "a camera's raw picture"),
    (b"IIRO", "a camera's raw picture"),
    (b"IIRS", "a camera's raw picture"),
    (b"IIU\0", "a camera's raw picture"),
    (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x1a\x45\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\0\1\xba", "a video (MPEG)"),
    (b"\0\0\1\xb3", "a video (MPEG)"),
    (b"FLV\1", "a video (Flash)"),
    (b"OggS", "Ogg"),
    (b"ID3", "a sound (MP3)"),
    (b"fLaC", "a sound (FLAC)"),
    (b"PK\3\4", "a ZIP archive"),
    (b"\x1f\x8b", "gzip"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PAR1", "Parquet"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"SIMPLE  =", "FITS"),
    (b"version https://git-lfs", "a Git LFS pointer (its file was not downloaded)"),
)
_RIFF = {b"WEBP": "WebP", b"AVI ": "a video (AVI)", b"WAVE": "a sound (WAV)"}
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"miaf")
_DIB_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # bytes of the headers that follow a BMP's own
_MARK = re.compile(rb"\s*(?:<\?xml.*?>|<!--.*?-->|\s)*<(!doctype\s+)?([a-z]+)", re.DOTALL | re.IGNORECASE)
_LOOKED_AT = 4096


def format_of(data: bytes) -> str:
    """The name of a format, "" for bytes that begin like none we know; of `READ`, `HEIF` or another."""
    head = data[:_LOOKED_AT]
    for beginning, name in _BEGINNINGS:
        if head.startswith(beginning):
            return name
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12], "RIFF")
    if head.startswith(_TIFF):
        return "a camera's raw picture" if head[8:10] == b"CR" else "TIFF"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _DIB_HEADERS:
        return "BMP"
    if head[4:8] == b"ftyp":
        return _media(head)
    if head[:1] == b"P" and head[1:2] in b"1234567fF" and head[2:3].isspace():
        return "PNM"
    return _text(head)


def _media(head: bytes) -> str:
    """Of an ISO media file, by its brands: the major one, then those it is compatible with."""
    size = int.from_bytes(head[:4], "big")
    listed = head[16 : max(16, min(size, 512))]
    brands = [head[8:12], *(listed[at : at + 4] for at in range(0, len(listed), 4))]
    if brands[0] == b"crx ":
        return "a camera's raw picture"
    if b"avif" in brands or b"avis" in brands:
        return "AVIF"
    if any(brand in _HEIF_BRANDS for brand in brands):
        return HEIF
    return "a video (QuickTime)" if brands[0] == b"qt  " else "a video (MP4)"


def _text(head: bytes) -> str:
    if not head.strip():
        return "an empty file" if not head else ""
    found = _MARK.match(head.removeprefix(b"\xef\xbb\xbf"))
    if found is None:
        return ""
    word = found[2].lower()
    return {b"svg": "SVG", b"html": "HTML", b"head": "HTML", b"body": "HTML"}.get(word, "XML")


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
EIGHT_BITS_RGB = bytes([8, 2])  # of a PNG's header
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


def encoder() -> str:
    """What decides about the bytes that `encode_png` makes of a decoded file, in words."""
    return f"Pillow {PIL.__version__}, level {PNG_LEVEL}, {DECODING}"


def has_encoded(environment: str) -> bool:
    """Whether `encode_png`, as it is here, wrote the picture of a row.

    Args:
        environment: of the row: canonical JSON, which has a Pillow only where a stage has drawn.
    """
    return f'"pillow":"{PIL.__version__}"' in environment


def is_whole_png(data: bytes) -> bool:
    """Whether bytes are an RGB PNG without metadata, unchanged by its checksums; no pixel is decoded."""
    at, view, kinds = 8, memoryview(data), []
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(view[at : at + 4], "big")
        if view[end : end + 4] != zlib.crc32(view[at + 4 : end]).to_bytes(4, "big"):
            return False
        kinds.append(bytes(view[at + 4 : at + 8]))
        at = end + 4
    plain = kinds[:1] == [b"IHDR"] and set(kinds[1:-1]) == {b"IDAT"} and kinds[-1:] == [b"IEND"]
    return plain and at == len(data) and format_of(data) == "PNG" and data[24:26] == EIGHT_BITS_RGB


def to_array(picture: Picture) -> NDArray[np.uint8]:
    """Pixels as (H, W, 3) uint8."""
    return np.asarray(picture.convert("RGB"), dtype=np.uint8)


def sha256(data: bytes) -> str:
    """64 hex digits; of encoded bytes, not of pixels."""
    return hashlib.sha256(data).hexdigest()


def mean_absolute_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Mean of |a - b| over pixels and channels, in [0, 1]; b is brought to a's size if it has another."""
    if a.shape != b.shape:
        height, width = a.shape[:2]
        b = np.asarray(Image.fromarray(b).resize((width, height), Image.Resampling.BICUBIC))
    return float(np.mean(np.abs(a.astype(np.int16) - b.astype(np.int16))) / 255)


HASH_SIDE = 8
GREY_SIDE = 32


def perceptual_hash(pixels: NDArray[np.uint8]) -> int:
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

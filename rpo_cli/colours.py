"""Pictures of other colour profiles than sRGB: what profile a file carries, and its pixels as sRGB.

Colours are matched relative to white (colorimetric), with black point compensation where a profile says how
dark its black is: colours that sRGB has come out exact, others at its edge. That a profile is sRGB is told
by what it does to colours, never by its name.
Sources: ICC.1:2022; PNG (third edition) 11.3.2; ITU-T H.273 tables 2 and 3; IEC 61966-2-1.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features
from PIL.Image import Image as Picture

from rpo_cli.errors import MissingDependency
from rpo_cli.installing import package

DECODING = (
    "srgb-1"  # how pictures of other profiles are decoded: part of the keys of what is made from them
)
UNREADABLE = "unreadable"
BARE = "inks without a profile"  # CMYK: what its numbers look like, only a guess can tell
TOLERANCE = 3  # of 255: spellings of sRGB differ by their roundings; the nearest other curve, by 9
STEP = 17  # between the levels of the colours by which profiles are told apart
ROWS = 64  # of a picture in one go
KEPT = 16  # profiles
NAMED = 5  # of them in a note
CLASSES = ("scnr", "mntr", "prtr", "spac")  # of profiles that say what colours a device's numbers are
# colour space of a profile → Pillow's mode of its numbers, modes of the pictures it fits
FITTING = {
    "RGB ": ("RGB", ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")),
    "GRAY": ("L", ("1", "L", "LA")),
    "CMYK": ("CMYK", ("CMYK",)),
}

Floats = NDArray[np.float64]
Primaries = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]
D65 = (0.3127, 0.3290)
P3: Primaries = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
BT709: Primaries = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
BT601: Primaries = ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070))
# code point of H.273 → primaries, white and name
PRIMARIES: Mapping[int, tuple[Primaries, tuple[float, float], str]] = {
    1: (BT709, D65, "BT.709"),
    2: (BT709, D65, "BT.709"),  # not told
    4: (((0.670, 0.330), (0.210, 0.710), (0.140, 0.080)), (0.310, 0.316), "BT.470 M"),
    5: (((0.640, 0.330), (0.290, 0.600), (0.150, 0.060)), D65, "BT.601 625"),
    6: (BT601, D65, "BT.601 525"),
    7: (BT601, D65, "SMPTE 240M"),
    9: (((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)), D65, "BT.2020"),
    11: (P3, (0.314, 0.351), "DCI-P3"),
    12: (P3, D65, "Display P3"),
}
# code point → exponent; None: the curve of sRGB, as which the cameras' curves of video are shown too
TRANSFERS: Mapping[int, float | None] = {
    **dict.fromkeys((1, 2, 6, 13, 14, 15)),
    4: 2.2,
    5: 2.8,
    8: 1.0,
}
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


class BadProfile(ValueError):
    """A profile that cannot be read, or does not fit its picture."""


@dataclass(frozen=True)
class Colours:
    """Colours of a picture that are not sRGB's.

    Attributes:
        name: of the profile, as its file tells it.
        mode: Pillow's, that a picture is brought to before `convert`, which gives RGB.
    """

    name: str
    mode: str
    convert: Callable[[Picture], Picture]


def decoding_of(profile: str | None) -> str | None:
    """How a picture of that profile (`pictures.Decoded`) is decoded, where its pixels are converted."""
    return None if profile in (None, UNREADABLE, BARE) else DECODING


def profile_notes(profiles: Mapping[str, int], several: int = 0) -> list[str]:
    """A line for each thing that was done to pictures of others as they were decoded.

    Args:
        profiles: what `pictures.Decoded` calls a profile → pictures.
        several: pictures of files that hold more of them.
    """
    other = {name: count for name, count in profiles.items() if name not in (UNREADABLE, BARE)}
    names = sorted(other, key=lambda name: (-other[name], name))
    more = f" and {len(names) - NAMED:,} others" if len(names) > NAMED else ""
    kinds = (
        (
            sum(other.values()),
            f"in another colour profile ({', '.join(names[:NAMED])}{more})",
            "read as sRGB",
        ),
        (profiles.get(UNREADABLE, 0), "with a colour profile that cannot be read", "taken as sRGB"),
        (profiles.get(BARE, 0), "of CMYK without a colour profile", "read by a formula, a guess"),
        (several, "of several frames or pages", "read by the first"),
    )
    return [
        f"{count:,} picture{'s' if count > 1 else ''} {what} {'were' if count > 1 else 'was'} {done}"
        for count, what, done in kinds
        if count
    ]


def colours_of(opened: Picture, data: bytes) -> Colours | None:
    """What an opened picture's file says of its colours; None: they are sRGB, or nothing is said.

    Of a PNG its cICP counts, then iCCP, sRGB, and gAMA where cHRM stands beside it; gAMA alone is not
    followed, as no browser follows it. Of AVIF and HEIF the ICC profile counts before the code points.

    Raises:
        BadProfile: what is said cannot be read.
        MissingDependency: Pillow was built without LittleCMS.
    """
    info = opened.info
    if opened.format == "PNG" and (points := _cicp(data)) is not None:
        if points[2:] != (0, 1):
            raise BadProfile("cICP of no full-range RGB")
        return _code_points(*points[:2])
    if "icc_profile" in info:
        if not isinstance(info["icc_profile"], bytes):
            raise BadProfile("no whole ICC profile")
        modes, found = _icc(info["icc_profile"])
        if opened.mode not in modes:
            raise BadProfile(f"a profile of {modes[-1]} in a picture of {opened.mode}")
        return found
    if opened.format == "PNG" and "srgb" not in info and {"gamma", "chromaticity"} <= info.keys():
        return _gamma(info["gamma"], tuple(info["chromaticity"]))
    return _coded(opened, data)


def _cicp(data: bytes) -> tuple[int, int, int, int] | None:
    """The four code points of a PNG's cICP chunk, which Pillow does not tell."""
    at = data.find(b"\0\0\0\4cICP", 8, max(data.find(b"IDAT"), 8))
    chunk = data[at + 4 : at + 12]
    if at < 0 or zlib.crc32(chunk).to_bytes(4, "big") != data[at + 12 : at + 16]:
        return None
    return chunk[4], chunk[5], chunk[6], chunk[7]


def _coded(opened: Picture, data: bytes) -> Colours | None:
    """By the code points of an AVIF or HEIF."""
    if opened.format == "AVIF":
        at = data.find(b"colrnclx", 0, 2**16)
        points = [int.from_bytes(data[at + n : at + n + 2], "big") for n in (8, 10)]
        return None if at < 0 else _code_points(*points)
    told: Any = opened.info.get("nclx_profile")
    if isinstance(told, Mapping):
        points = [int(told.get(name, 2)) for name in ("color_primaries", "transfer_characteristics")]
        return _code_points(*points)
    return None


@lru_cache(KEPT)
def _code_points(primaries: int, transfer: int) -> Colours | None:
    if primaries not in PRIMARIES or transfer not in TRANSFERS:
        raise BadProfile(f"colours of the code points {primaries}/{transfer}")
    colours, white, name = PRIMARIES[primaries]
    gamma = TRANSFERS[transfer]
    return _shaped(name if gamma is None else f"{name}, gamma {gamma:g}", colours, white, gamma)


@lru_cache(KEPT)
def _gamma(encoding: float, points: tuple[float, ...]) -> Colours | None:
    """By a PNG's gAMA and cHRM: white, red, green, blue."""
    if not (0.05 <= encoding <= 5 and len(points) == 8):
        raise BadProfile(f"gAMA {encoding}")
    white, red, green, blue = ((points[n], points[n + 1]) for n in (0, 2, 4, 6))
    # 45455 of gAMA is what software writes that means sRGB's own curve
    curve = None if abs(encoding - 1 / 2.2) < 1e-4 else 1 / encoding
    return _shaped("PNG gAMA and cHRM", (red, green, blue), white, curve)


def _shaped(
    name: str, primaries: Primaries, white: tuple[float, float], gamma: float | None
) -> Colours | None:
    """By primaries, white and a curve, computed here."""
    try:
        adapted = _adapted(white) @ _xyz(primaries, white)
        matrix = np.linalg.solve(_xyz(BT709, D65), adapted)
    except (np.linalg.LinAlgError, ZeroDivisionError) as error:
        raise BadProfile("primaries that span no colours") from error
    if not np.isfinite(matrix).all():
        raise BadProfile("primaries that span no colours")
    levels = np.arange(256) / 255
    light = _linear(levels) if gamma is None else levels**gamma

    def convert(picture: Picture) -> Picture:
        pixels = np.asarray(picture)
        out = np.empty_like(pixels)
        for start in range(0, len(pixels), ROWS):
            out[start : start + ROWS] = _encoded(light[pixels[start : start + ROWS]] @ matrix.T)
        return Image.fromarray(out)

    return _unless_srgb(Colours(name, "RGB", convert))


def _xyz(primaries: Primaries, white: tuple[float, float]) -> Floats:
    """(3, 3): linear RGB → XYZ."""
    columns = np.array([_tristimulus(point) for point in primaries]).T
    return np.asarray(columns * np.linalg.solve(columns, _tristimulus(white)), dtype=np.float64)


def _tristimulus(point: tuple[float, float]) -> Floats:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adapted(white: tuple[float, float]) -> Floats:
    """(3, 3): XYZ under a white → under that of sRGB (Bradford)."""
    ratio = (BRADFORD @ _tristimulus(D65)) / (BRADFORD @ _tristimulus(white))
    return np.asarray(np.linalg.solve(BRADFORD, np.diag(ratio) @ BRADFORD), dtype=np.float64)


def _linear(levels: Floats) -> Floats:
    return np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)


def _encoded(light: Floats) -> NDArray[np.uint8]:
    clipped = np.clip(light, 0, 1)
    levels = np.where(clipped <= 0.0031308, clipped * 12.92, 1.055 * clipped ** (1 / 2.4) - 0.055)
    pixels: NDArray[np.uint8] = np.rint(levels * 255).astype(np.uint8)
    return pixels


@lru_cache(KEPT)
def _icc(profile: bytes) -> tuple[tuple[str, ...], Colours | None]:
    """Modes of the pictures that an ICC profile fits, and what it says of their colours.

    Raises:
        BadProfile, MissingDependency.
    """
    if not features.check("littlecms2"):
        raise MissingDependency(
            "Pillow was built without LittleCMS, and a picture has a colour profile",
            package("--force-reinstall", "pillow"),
        )
    from PIL import ImageCms

    try:
        found = ImageCms.ImageCmsProfile(BytesIO(profile))
        space, kind = found.profile.xcolor_space, found.profile.device_class
        if space not in FITTING or kind not in CLASSES:
            raise BadProfile(f"a profile of {space!r} and class {kind!r}")
        mode, modes = FITTING[space]
        transform = ImageCms.buildTransform(
            found,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return modes, _unless_srgb(Colours(_name(found), mode, transform.apply))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        raise BadProfile(str(error)) from error


def _name(profile: Any) -> str:
    """What a profile calls itself: a line of data, so at most 60 characters that can be printed."""
    from PIL import ImageCms

    try:
        told = ImageCms.getProfileDescription(profile)
    except (ImageCms.PyCMSError, ValueError, TypeError):
        told = ""
    return "".join(letter for letter in " ".join(told.split()) if letter.isprintable())[:60] or "unnamed"


def _unless_srgb(colours: Colours) -> Colours | None:
    """None where colours all over the range, and every grey, come out as they went in."""
    greys = np.arange(256, dtype=np.uint8)
    if colours.mode == "CMYK":
        return colours
    if colours.mode == "L":
        given, wanted = greys[None], np.stack([greys[None]] * 3, axis=-1)
    else:
        levels = np.arange(0, 256, STEP, dtype=np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(-1, 3)
        given = wanted = np.concatenate([grid, np.stack([greys] * 3, axis=-1)])[None]
    made = np.asarray(colours.convert(Image.fromarray(given)))
    apart = np.abs(made.astype(np.int16) - wanted.astype(np.int16))
    return colours if apart.max() > TOLERANCE else None

"""A few drawing primitives over Pillow: clipped text, smooth boxes, fitted pictures. Units are pixels."""

import unicodedata
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as Picture

SMOOTH = 4  # boxes are drawn this many times larger and shrunk: Pillow's own corners are jagged
LONGEST = 2000
MARKS = 2  # accents on one letter; more would be drawn over the lines above
TRIED = 16  # pixels, at which fonts are asked for a letter
MISSING = "\uffff"  # no character, so that every font draws its box for it
# what Linux, macOS and Windows bring, by file name: accents, Greek, Cyrillic, Arabic and Hebrew; Chinese,
# Japanese and Korean; scripts of India and Thailand
FALLBACKS = (
    *("DejaVuSans.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf"),
    *("NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "Arial Unicode.ttf", "segoeui.ttf"),
    *("NotoSansCJK-Regular.ttc", "wqy-microhei.ttc", "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf"),
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),
    *("msyh.ttc", "msgothic.ttc", "malgun.ttf"),
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "Nirmala.ttf", "leelawui.ttf"),
)


class Box(NamedTuple):
    """Left, top, width, height."""

    x: int
    y: int
    width: int
    height: int

    def inset(self, by: int) -> "Box":
        return Box(self.x + by, self.y + by, self.width - 2 * by, self.height - 2 * by)


@dataclass(frozen=True)
class Style:
    """How text looks: size in pixels, colour, the distance of lines, and how many there may be."""

    size: int
    colour: str
    lines: int = 1

    @property
    def line_height(self) -> int:
        return round(self.size * 1.36)


@cache
def font(size: int) -> ImageFont.FreeTypeFont:
    """Pillow's bundled font: there on every machine, so that sheets in its letters have equal bytes."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return found


@cache
def others() -> tuple[str, ...]:
    """Files of the machine's own fonts, for letters that the bundled one lacks."""
    found = []
    for name in FALLBACKS:
        try:
            found.append(str(ImageFont.truetype(name, TRIED).path))
        except OSError:
            continue
    return tuple(found)


@cache
def face(path: str | None, size: int) -> ImageFont.FreeTypeFont:
    """The font of a file; None: the bundled one."""
    return font(size) if path is None else ImageFont.truetype(path, size)


def drawn_by(text: str) -> str | None:
    """The file of the first font that has all these letters, None for the bundled one.

    Raises:
        LookupError: no font has them all.
    """
    if all(_has(None, char) for char in text):
        return None
    for path in others():
        if all(_has(path, char) for char in text):
            return path
    raise LookupError(text)


@cache
def _has(path: str | None, char: str) -> bool:
    """Whether a font draws a character otherwise than one that it lacks for certain."""
    one, missing = (face(path, TRIED).getmask(found) for found in (char, MISSING))
    return one.size != missing.size or bytes(one) != bytes(missing)


def clean(text: str) -> str:
    """Untrusted text as one harmless line: control, direction and unassigned characters are gone.

    An accented letter that no font has loses its accent; more than two marks on one letter are cut.
    """
    kept: list[str] = []
    marks = 0
    for char in unicodedata.normalize("NFC", text[:LONGEST]):
        category = unicodedata.category(char)[0]
        marks = marks + 1 if category == "M" else 0
        if category == "C":
            kept.append(" ")
        elif marks <= MARKS:
            kept.append(_drawable(char))
    return " ".join("".join(kept).split())


def _drawable(char: str) -> str:
    """The letter; without its accents where no font has it; nothing for an accent that no font has."""
    try:
        drawn_by(char)
    except LookupError:
        parts = unicodedata.normalize("NFKD", char)
        return "".join(part for part in parts if unicodedata.category(part)[0] not in "MC")
    return char


def runs(line: str) -> list[tuple[str | None, str]]:
    """A clean line in pieces of one font each, whole words where a font has all of their letters.

    A space goes with the bundled font's piece: at the end of one that is written from right to left it
    would be drawn on its left.
    """
    found: list[tuple[str | None, str]] = []
    for number, word in enumerate(line.split(" ")):
        for place, (path, piece) in enumerate(_pieces(word)):
            gap = " " if number and not place else ""
            if found and found[-1][0] == path:
                found[-1] = (path, f"{found[-1][1]}{gap}{piece}")
            elif gap and path is not None:
                before = found.pop()[1] if found[-1][0] is None else ""
                found += [(None, f"{before}{gap}"), (path, piece)]
            else:
                found.append((path, f"{gap}{piece}"))
    return found


def _pieces(word: str) -> list[tuple[str | None, str]]:
    try:
        return [(drawn_by(word), word)]
    except LookupError:
        if len(word) == 1:
            return [(None, word)]  # the bundled font's box for a letter that nothing can draw
        return [piece for char in word for piece in _pieces(char)]


def length(line: str, size: int) -> float:
    """Width of a clean line in pixels."""
    return sum(face(path, size).getlength(piece) for path, piece in runs(line))


def wrap(text: str, style: Style, width: int) -> list[str]:
    """At most `style.lines` lines that fit `width`; what does not fit ends in an ellipsis."""
    measure = partial(length, size=style.size)
    lines: list[str] = []
    words = clean(text).split()
    while words and len(lines) < style.lines:
        line = words.pop(0)
        while measure(line) > width and len(line) > 1:  # a word wider than the box is cut
            fitting = max(1, int(len(line) * width / measure(line)))
            line, rest = line[: min(fitting, len(line) - 1)], line[min(fitting, len(line) - 1) :]
            words.insert(0, rest)
            if measure(line) <= width:
                break
            words[0] = line[-1] + words[0]
            line = line[:-1]
        while words and measure(f"{line} {words[0]}") <= width:
            line = f"{line} {words.pop(0)}"
        lines.append(line)
    if words and lines:
        last = lines[-1]
        while last and measure(f"{last}…") > width:
            last = last[:-1]
        lines[-1] = f"{last.rstrip()}…"
    return lines


def write(page: Picture, box: Box, text: str, style: Style) -> int:
    """Draw text inside `box`, never outside it; returns the height that the lines take."""
    lines = wrap(text, style, box.width)
    layer = page.crop((box.x, box.y, box.x + box.width, box.y + box.height))
    brush = ImageDraw.Draw(layer)
    for number, line in enumerate(lines):
        _write(brush, number * style.line_height, line, style)
    page.paste(layer, (box.x, box.y))
    return len(lines) * style.line_height


def _write(brush: ImageDraw.ImageDraw, top: int, line: str, style: Style) -> None:
    """Draw a clean line, all its pieces on one base line."""
    left, base = 0.0, top + font(style.size).getmetrics()[0]
    for path, piece in runs(line):
        brush.text((left, base), piece, fill=style.colour, font=face(path, style.size), anchor="ls")
        left += face(path, style.size).getlength(piece)


def width_of(text: str, style: Style) -> int:
    return round(length(clean(text), style.size))


def rounded(page: Picture, box: Box, radius: int, fill: str) -> None:
    """A filled box with smooth round corners."""
    large = Image.new("L", (box.width * SMOOTH, box.height * SMOOTH), 0)
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, large.width - 1, large.height - 1), radius * SMOOTH, fill=255
    )
    mask = large.resize((box.width, box.height), Image.Resampling.BOX)
    page.paste(Image.new("RGB", (box.width, box.height), fill), (box.x, box.y), mask)


def place(page: Picture, box: Box, picture: Picture, radius: int) -> None:
    """A picture scaled to fit the box, centred, with round corners."""
    scale = min(box.width / picture.width, box.height / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    method = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
    scaled = picture.resize(size, method)
    large = Image.new("L", (size[0] * SMOOTH, size[1] * SMOOTH), 0)
    ImageDraw.Draw(large).rounded_rectangle(
        (0, 0, large.width - 1, large.height - 1), radius * SMOOTH, fill=255
    )
    mask = large.resize(size, Image.Resampling.BOX)
    page.paste(scaled, (box.x + (box.width - size[0]) // 2, box.y + (box.height - size[1]) // 2), mask)

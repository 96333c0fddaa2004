"""A few drawing primitives over Pillow: clipped text, smooth boxes, fitted pictures. Units are pixels."""

import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from PIL.Image import Image as Picture

SMOOTH = 4  # boxes are drawn this many times larger and shrunk: Pillow's own corners are jagged
LONGEST = 2000


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
    """Pillow's bundled font: there on every machine, so equal sheets have equal bytes."""
    found = ImageFont.load_default(size)
    assert isinstance(found, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return found


def clean(text: str) -> str:
    """Untrusted text as one harmless line: control, direction and unassigned characters are gone.

    Accents go too: the bundled font has no letters that carry them.
    """
    kept = []
    for char in unicodedata.normalize("NFKD", text[:LONGEST]):
        category = unicodedata.category(char)[0]
        if category != "M":
            kept.append(" " if category == "C" else char)
    return " ".join("".join(kept).split())


def wrap(text: str, style: Style, width: int) -> list[str]:
    """At most `style.lines` lines that fit `width`; what does not fit ends in an ellipsis."""
    measure = font(style.size).getlength
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
        brush.text((0, number * style.line_height), line, fill=style.colour, font=font(style.size))
    page.paste(layer, (box.x, box.y))
    return len(lines) * style.line_height


def width_of(text: str, style: Style) -> int:
    return round(font(style.size).getlength(clean(text)))


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

"""Pictures in a terminal: two pixels a character, upper and lower half, in the terminal's own colours."""

import sys

from PIL import Image
from PIL.Image import Image as Picture
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

from rpo_cli.errors import CorruptImage
from rpo_cli.pictures import decode

HALF = "▀"  # its upper half is the foreground, its lower half the background
COLUMNS, ROWS = 48, 24  # at most


def draw(data: bytes) -> None:
    """Draw an encoded picture on stdout; nothing where stdout is no terminal that can."""
    console = Console(file=sys.stdout, highlight=False)
    if not able(console):
        return
    try:
        picture = decode(data)
    except CorruptImage:
        return  # the text beside it says what is wrong
    console.print(half_blocks(picture, min(COLUMNS, console.width), ROWS))


def able(console: Console) -> bool:
    """A terminal with colours and an encoding that has the half block."""
    colours = console.color_system is not None and not console.no_color
    encoding = (getattr(console.file, "encoding", None) or "ascii").lower().replace("-", "")
    return console.is_terminal and not console.is_dumb_terminal and colours and encoding.startswith("utf")


def half_blocks(picture: Picture, columns: int, rows: int) -> Text:
    """The picture in at most `columns` x `rows` characters, its shape kept; never enlarged."""
    scale = min(1.0, columns / picture.width, 2 * rows / picture.height)
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.convert("RGB").resize((width, height), Image.Resampling.BOX)
    pixels = small.load()
    assert pixels is not None
    text = Text(no_wrap=True)
    for y in range(0, height, 2):
        for x in range(width):
            upper = Color.from_rgb(*pixels[x, y])  # type: ignore[misc]
            # below an odd last row there is nothing: the terminal's own background
            lower = Color.from_rgb(*pixels[x, y + 1]) if y + 1 < height else None  # type: ignore[misc]
            text.append(HALF, Style(color=upper, bgcolor=lower))
        text.append("\n")
    text.rstrip()
    return text

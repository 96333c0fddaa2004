"""Pictures of several models beside each other: a card per prompt, a column per model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from PIL.Image import Image as Picture

from rpo_cli.visuals.canvas import Box, Style, place, rounded, write
from rpo_cli.visuals.contact_sheet import CARD, EDGE, INK, LABEL, PAPER, RULE, SMALL, SOFT

SIDES = (512, 384, 256, 192, 128)  # of a picture's cell, the largest that keeps the sheet small enough
SMALLEST = 192  # smaller pictures are enlarged where there is room
PIXELS = 38_000_000  # of a sheet: below what `pictures.decode` takes
TEXT = 224  # width of the column of prompts
MARGIN, PAD, GAP, HEAD, TITLE = 28, 18, 12, 52, 26
PROMPT_SIZE = 19


@dataclass(frozen=True)
class Row:
    """A prompt and its pictures: one line per start noise, in each one picture per model, or None."""

    prompt: str
    pictures: Sequence[Sequence[Picture | None]]


def side_of(*, prompts: int, seeds: int, columns: int) -> int:
    """The size of a cell with which a sheet has at most PIXELS, whatever the shape of its pictures."""
    for side in SIDES:
        width, height = size_of(prompts, seeds, columns, (side, side))
        if width * height <= PIXELS:
            return side
    return SIDES[-1]


def size_of(prompts: int, seeds: int, columns: int, cell: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a sheet."""
    width = 2 * MARGIN + 2 * PAD + TEXT + columns * (cell[0] + GAP)
    return width, HEAD + prompts * (_height(seeds, cell) + GAP) - GAP + MARGIN


def draw(rows: Sequence[Row], titles: Sequence[str], *, sampling: str, side: int) -> Picture:
    """The sheet; every prompt has equally many lines.

    Args:
        titles: of the columns.
        sampling: how all was sampled.
        side: of `side_of`; cells are smaller where all pictures are.
    """
    cell = _cell((picture for row in rows for line in row.pictures for picture in line if picture), side)
    seeds = len(rows[0].pictures)
    page = Image.new("RGB", size_of(len(rows), seeds, len(titles), cell), PAPER)
    head = Box(MARGIN, 18, page.width - 2 * MARGIN, 24)
    write(page, head, f"pictures in one line begin from the same noise; {sampling}", SMALL)
    height = _height(seeds, cell)
    for number, row in enumerate(rows):
        box = Box(MARGIN, HEAD + number * (height + GAP), page.width - 2 * MARGIN, height)
        _card(page, box, row, titles, cell)
    return page


def _cell(pictures: Iterable[Picture], side: int) -> tuple[int, int]:
    """Width and height of every cell: the largest picture's, enlarged where all are small."""
    sizes = [picture.size for picture in pictures]
    width, height = max(size[0] for size in sizes), max(size[1] for size in sizes)
    scale = min(side, max(SMALLEST, width, height)) / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _height(lines: int, cell: tuple[int, int]) -> int:
    """Of a card."""
    return 2 * PAD + TITLE + lines * (cell[1] + GAP) - GAP


def _card(page: Picture, box: Box, row: Row, titles: Sequence[str], cell: tuple[int, int]) -> None:
    corners = (box.x, box.y, box.x + box.width - 1, box.y + box.height - 1)
    # not the canvas's smooth box: a card may be as large as the page, and that draws 16 times as much
    ImageDraw.Draw(page).rounded_rectangle(corners, 14, fill=CARD, outline=EDGE)
    left, top = box.x + PAD, box.y + PAD
    room = box.height - 2 * PAD - TITLE
    style = Style(PROMPT_SIZE, INK, room // Style(PROMPT_SIZE, INK).line_height)
    write(page, Box(left, top, TEXT, TITLE), "PROMPT", LABEL)
    write(page, Box(left, top + TITLE, TEXT, room), row.prompt, style)
    for column, title in enumerate(titles):
        x = left + TEXT + GAP + column * (cell[0] + GAP)
        write(page, Box(x, top, cell[0], TITLE), title, Style(15, SOFT))
        for number, line in enumerate(row.pictures):
            y = top + TITLE + number * (cell[1] + GAP)
            _picture(page, Box(x, y, *cell), line[column])


def _picture(page: Picture, box: Box, picture: Picture | None) -> None:
    if picture is not None:
        place(page, box, picture, 7)
        return
    rounded(page, box, 7, RULE)
    middle = box.y + box.height // 2 - SMALL.line_height // 2
    write(page, Box(box.x + 12, middle, box.width - 24, SMALL.line_height), "rejected", SMALL)

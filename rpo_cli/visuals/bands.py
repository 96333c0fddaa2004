"""Curves of several settings on one axis, as an SVG file: means over seeds, in bands of lowest to highest.

Pure functions from numbers to text, the same bytes for the same numbers. Told apart by colour, and beyond
the number of colours by dashes; readable on a light and on a dark page. Labels are untrusted and escaped.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import escape

from rpo_cli.visuals.charts import cut, ends, tick
from rpo_cli.visuals.html import clean

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 420, 72, 24, 52, 48
KEY_ROW, KEYS = 22, 2  # height of a line of the key, and names in it
TICKS = 5
# Okabe and Ito's colours, which people who confuse red and green tell apart too; no yellow on white
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
DASHES = ("", "7 4", "2 3", "9 3 2 3")
HOW = "line: mean over the training seeds; band: from the lowest to the highest of them"
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.axis{stroke:#222;fill:none}.grid{stroke:#ddd}"
    ".soft{font-size:11px}.mean{fill:none;stroke-width:2}.band{fill-opacity:.18;stroke:none}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.axis{stroke:#ddd}.grid{stroke:#444}}"
)


class Band(NamedTuple):
    """The mean over seeds at a place of the horizontal axis, and the lowest and highest of them."""

    at: float
    mean: float
    low: float
    high: float


Place = tuple[float, float]


def overlaid(series: Mapping[str, Sequence[Band]], *, title: str, unit: str) -> str:
    """One line and one band a name, named under the axis; places that are not finite are left out.

    Args:
        title: what the vertical axis counts. unit: what the horizontal one counts.

    Raises:
        ValueError: nothing to draw.
    """
    kept = {name: [band for band in bands if np.isfinite(band).all()] for name, bands in series.items()}
    every = [band for bands in kept.values() for band in bands]
    if not every:
        raise ValueError("there is nothing to draw")
    left, right = ends([band.at for band in every])
    low, high = ends([value for band in every for value in (band.low, band.high)])

    def place(at: float, value: float) -> Place:
        return (
            LEFT + (WIDTH - LEFT - RIGHT) * (at - left) / (right - left),
            TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low),
        )

    parts = [
        f'<text x="{LEFT}" y="16">{escape(cut(title, 90))}</text>',
        f'<text class="soft" x="{LEFT}" y="34">{HOW}</text>',
        *_axes(left, right, low, high, unit),
    ]
    for number, bands in enumerate(kept.values()):
        upper = [place(band.at, band.high) for band in bands]
        lower = [place(band.at, band.low) for band in reversed(bands)]
        parts.append(f'<polygon class="band" fill="{_colour(number)}" points="{_path(upper + lower)}"/>')
    for number, bands in enumerate(kept.values()):
        parts.append(_line([place(band.at, band.mean) for band in bands], number))
    for number, name in enumerate(kept):
        parts += _key(name, number)
    return _file(parts, title, HEIGHT + KEY_ROW * math.ceil(len(kept) / KEYS) + 8)


def _file(parts: Sequence[str], title: str, height: int) -> str:
    said = escape(clean(title))
    box = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img" aria-label="{said}">'
    body = "\n".join(parts)
    return f"{head}\n<title>{said}</title>\n<style>{STYLE}</style>\n{body}\n</svg>\n"


def _axes(left: float, right: float, low: float, high: float, unit: str) -> list[str]:
    bottom, edge = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    middle = (LEFT + edge) / 2
    for value in ticks(low, high):
        y = TOP + (bottom - TOP) * (high - value) / (high - low)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{edge}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y:.1f}" dy="4" text-anchor="end">{tick(value)}</text>')
    for at in (at for at in ticks(left, right) if abs(at - round(at)) < 1e-9):  # steps are whole
        x = LEFT + (edge - LEFT) * (at - left) / (right - left)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{tick(at)}</text>')
    middle = (LEFT + edge) / 2
    parts.append(
        f'<text x="{middle:.1f}" y="{bottom + 38}" text-anchor="middle">{escape(cut(unit))}</text>'
    )
    return [*parts, f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{edge}"/>']


def ticks(low: float, high: float) -> list[float]:
    """Round numbers between two others, three to seven of them: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * (TICKS + 1) >= high - low)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def _key(name: str, number: int) -> list[str]:
    """A name beside a piece of its line, and of its band."""
    x = LEFT + (number % KEYS) * (WIDTH - LEFT - RIGHT) / KEYS
    y = HEIGHT + KEY_ROW * (number // KEYS) + 8
    return [
        _line([(x, y), (x + 30, y)], number),
        f'<text x="{x + 38:.1f}" y="{y + 4}">{escape(cut(name))}</text>',
    ]


def _line(places: Sequence[Place], number: int) -> str:
    dash = DASHES[number // len(COLOURS) % len(DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline class="mean" stroke="{_colour(number)}"{dashed} points="{_path(places)}"/>'


def _path(places: Sequence[Place]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]

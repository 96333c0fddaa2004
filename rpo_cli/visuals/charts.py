"""Charts as inline SVG: pure functions from numbers to text, the same bytes for the same numbers.

Readable without colour (length, position, dashes and markers carry the meaning) and at 360 pixels: 1 unit
is about 1 pixel on a phone. Labels are untrusted and escaped; colours are classes of the page's style.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup, escape

from rpo_cli.visuals.html import clean
from rpo_cli.visuals.tally import Bins, Points

WIDTH, HEIGHT = 360, 200
LEFT, RIGHT, TOP, BOTTOM = 56, 18, 22, 36
INNER_WIDTH, INNER_HEIGHT = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
BAR_ROW = 34
LABEL = 44  # characters of a label before it is cut
TICKS, TICK = 5, 8  # how many, and the characters of one that fit beside the axis
STEP = "step"


def histogram(bins: Bins, *, title: str, unit: str, marks: Mapping[float, str] | None = None) -> Markup:
    """Counts as columns over their range.

    Args:
        unit: what the horizontal axis counts, written under it.
        marks: dashed lines at values of that axis, each with a word beside it.
    """
    highest = max([*bins.counts, 1])
    step = INNER_WIDTH / len(bins.counts)
    columns = "".join(
        _rect(LEFT + n * step, TOP + INNER_HEIGHT * (1 - count / highest), step - 1, count, highest)
        for n, count in enumerate(bins.counts)
        if count
    )
    low, high = bins.edges[0], bins.edges[-1]
    # two words stand back to back, so that they do not touch
    anchors = ("end", "start") if len(marks or {}) > 1 else ("middle",)
    lines = "".join(
        _mark(LEFT + INNER_WIDTH * (value - low) / (high - low), word, anchors[n % len(anchors)])
        for n, (value, word) in enumerate(sorted((marks or {}).items()))
        if low < value < high
    )
    body = _axes(low, high, 0, highest, unit, whole=True) + columns + lines
    return _svg(body, title, HEIGHT)


def bars(rows: Sequence[tuple[str, int]], *, title: str) -> Markup:
    """One bar per row under its label, the count written beside it."""
    highest = max([count for _, count in rows] + [1])
    body = "".join(
        f'<text x="0" y="{n * BAR_ROW + 13}">{escape(cut(label))}</text>'
        f'<text x="{WIDTH}" y="{n * BAR_ROW + 13}" text-anchor="end">{count:,}</text>'
        f'<rect class="track" x="0" y="{n * BAR_ROW + 18}" width="{WIDTH}" height="9"/>'
        f'<rect class="bar" x="0" y="{n * BAR_ROW + 18}" width="{_n(WIDTH * count / highest)}" height="9"/>'
        for n, (label, count) in enumerate(rows)
    )
    return _svg(body, title, max(1, len(rows)) * BAR_ROW)


def curves(series: Mapping[str, Points], *, title: str, unit: str = STEP) -> Markup:
    """Values over steps: one line per name, told apart by dashes and by the marker at its points.

    Points that are not finite are left out.

    Args:
        unit: what the horizontal axis counts, written under it.
    """
    kept = {name: [(x, y) for x, y in points if math.isfinite(y)] for name, points in series.items()}
    every = [point for points in kept.values() for point in points]
    if not every:
        return Markup()
    left, right = ends([x for x, _ in every])
    low, high = ends([y for _, y in every])
    body = _axes(left, right, low, high, unit)
    for n, (name, points) in enumerate(kept.items()):
        places = [
            (
                LEFT + INNER_WIDTH * (x - left) / (right - left),
                TOP + INNER_HEIGHT * (1 - (y - low) / (high - low)),
            )
            for x, y in points
        ]
        body += _line(places, n) + _key(name, n, len(kept))
    return _svg(body, title, HEIGHT + 18)


def _svg(body: str, title: str, height: int) -> Markup:
    said = escape(clean(title))
    head = f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}" aria-label="{said}">'
    return Markup(f"{head}<title>{said}</title>{body}</svg>")


def _n(value: float) -> str:
    """A coordinate, short and the same on every machine."""
    return f"{value:.1f}".removesuffix(".0")


def cut(text: str, letters: int = LABEL) -> str:
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= letters else f"{flat[: letters - 1]}…"


def _rect(x: float, y: float, width: float, count: int, highest: int) -> str:
    height = INNER_HEIGHT * count / highest
    return (
        f'<rect class="bar" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(max(height, 0.6))}"/>'
    )


def _mark(x: float, word: str, anchor: str) -> str:
    """A dashed line with a word above it."""
    place = {"end": x + 2, "middle": x, "start": x - 2}[anchor]
    return (
        f'<line class="mark" x1="{_n(x)}" x2="{_n(x)}" y1="{TOP - 2}" y2="{TOP + INNER_HEIGHT}"/>'
        f'<text x="{_n(place)}" y="{TOP - 7}" text-anchor="{anchor}">{escape(cut(word))}</text>'
    )


def _axes(left: float, right: float, low: float, high: float, unit: str, *, whole: bool = False) -> str:
    bottom = TOP + INNER_HEIGHT
    parts = [f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}"/>']
    ticks = np.linspace(left, right, TICKS)
    # steps are whole numbers; a short range keeps its fractions
    for x in np.unique(ticks.round()) if right - left >= TICKS and unit == STEP else ticks:
        place = LEFT + INNER_WIDTH * (x - left) / (right - left)
        parts.append(f'<text x="{_n(place)}" y="{bottom + 14}" text-anchor="middle">{tick(x)}</text>')
    for y in (low, high) if whole else np.linspace(low, high, 3):
        place = bottom - INNER_HEIGHT * (y - low) / (high - low)
        said = f"{int(y):,}" if whole else tick(float(y))
        parts.append(f'<text x="{LEFT - 5}" y="{_n(place + 4)}" text-anchor="end">{said}</text>')
    middle = LEFT + INNER_WIDTH / 2
    parts.append(
        f'<text x="{_n(middle)}" y="{bottom + 29}" text-anchor="middle">{escape(cut(unit, 52))}</text>'
    )
    return "".join(parts)


def tick(value: float) -> str:
    """At most TICK characters, so that no sign is cut off at the edge: "-7.4e-4" for -0.000743."""
    if abs(value) < 1e-12:
        return "0"
    text = f"{value:.3g}"
    if len(text) <= TICK:
        return text
    digits, power = f"{value:.1e}".split("e")
    return f"{digits}e{int(power)}"


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value, never equal."""
    low, high = min(values), max(values)
    pad = abs(low) * 0.05 or 0.5
    return (low, high) if high > low else (low - pad, high + pad)


def _line(places: Sequence[tuple[float, float]], number: int) -> str:
    path = " ".join(f"{_n(x)},{_n(y)}" for x, y in places)
    # crowded points need no markers: the line shows them
    marked = places if len(places) <= 40 else places[-1:]
    return f'<polyline class="line s{number % 4}" points="{path}"/>' + "".join(
        _marker(x, y, number) for x, y in marked
    )


def _marker(x: float, y: float, number: int) -> str:
    """Circle, square, triangle or cross."""
    a, b = _n(x - 2.5), _n(y - 2.5)
    shapes = (
        f'<circle class="dot" cx="{_n(x)}" cy="{_n(y)}" r="2"/>',
        f'<rect class="dot" x="{a}" y="{b}" width="5" height="5"/>',
        f'<path class="dot" d="M{_n(x)} {_n(y - 3.5)}l3.5 6h-7z"/>',
        f'<path class="line" d="M{a} {b}l5 5m0 -5l-5 5"/>',
    )
    return shapes[number % 4]


def _key(name: str, number: int, count: int) -> str:
    """The line's name under the axis, beside a piece of the line."""
    x, y = LEFT + number * INNER_WIDTH / count, HEIGHT + 8
    return (
        f'<polyline class="line s{number % 4}" points="{_n(x)},{y} {_n(x + 26)},{y}"/>'
        f'{_marker(x + 13, y, number)}<text x="{_n(x + 31)}" y="{y + 4}">{escape(cut(name))}</text>'
    )

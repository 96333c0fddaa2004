"""Curves with intervals as SVG: told apart by marks and dashes, named at their ends, light and dark."""

import math
from html import escape
from typing import NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 56, 130, 44, 40
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.line{fill:none;stroke:#222;stroke-width:2}"
    ".bar{stroke:#222;stroke-width:1}.mark{fill:#222;stroke:#222}.open{fill:#fff;stroke:#222;stroke-width:2}"
    ".grid{stroke:#ccc}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.line,.bar,.open{stroke:#ddd}.mark{fill:#ddd;stroke:#ddd}"
    ".open{fill:#111}.grid{stroke:#444}}"
)
DASHES = ("", "7 4", "2 3", "9 3 2 3")
GRID = 0.05
APART, NAMES_APART = 7, 16  # pixels between the bars of one place, and between names


class Point(NamedTuple):
    """A value at a place of the axis, with the ends of its interval."""

    at: float
    mean: float
    low: float
    high: float


def curve(lines: dict[str, list[Point]], unit: str) -> str:
    """One line a name; places stand on a logarithmic axis. There is at least one point."""
    points = [point for line in lines.values() for point in line]
    places = sorted({point.at for point in points})
    low = GRID * math.floor(round(min(point.low for point in points) / GRID, 6))
    high = GRID * math.ceil(round(max(point.high for point in points) / GRID, 6))
    wide = math.log(places[-1] / places[0]) or 1.0

    def x(at: float) -> float:
        return LEFT + 16 + (WIDTH - LEFT - RIGHT - 32) * math.log(at / places[0]) / wide

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / ((high - low) or GRID)

    parts = [f'<text x="{LEFT}" y="16">{escape(unit)}</text>']
    for tick in range(round(low / GRID), round(high / GRID) + 1):
        at = f"{y(tick * GRID):.1f}"
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at}" dy="4" text-anchor="end">{tick * GRID:.2f}</text>')
    for place in places:
        at = f"{x(place):.1f}"
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 22}" text-anchor="middle">{place:g}</text>')
    for n, line in enumerate(lines.values()):
        shift = APART * (n - (len(lines) - 1) / 2)
        parts += _line([Point(x(p.at) + shift, y(p.mean), y(p.low), y(p.high)) for p in line], n)
    ends = {name: y(line[-1].mean) for name, line in lines.items()}
    parts += _names(ends, {name: x(line[-1].at) for name, line in lines.items()})
    body = "\n".join(parts)
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">\n<style>{STYLE}</style>'
    return f"{head}\n{body}\n</svg>\n"


def _line(points: list[Point], n: int) -> list[str]:
    """The n-th line, its intervals and marks, in pixels."""
    path = " ".join(f"{point.at:.1f},{point.mean:.1f}" for point in points)
    dash = f' stroke-dasharray="{DASHES[n % 4]}"' if DASHES[n % 4] else ""
    parts = [f'<polyline class="line"{dash} points="{path}"/>']
    for at, mean, low, high in points:
        parts.append(f'<line class="bar" x1="{at:.1f}" x2="{at:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>')
        parts.append(_mark(at, mean, n))
    return parts


def _mark(x: float, y: float, n: int) -> str:
    """A full circle, an open circle, a full square or an open square."""
    kind = ("mark", "open")[n % 2]
    if n % 4 < 2:
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
    return f'<rect class="{kind}" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'


def _names(ends: dict[str, float], places: dict[str, float]) -> list[str]:
    """A name and its mark at the end of each line, moved apart where lines end together."""
    parts, free = [], -math.inf
    for name in sorted(ends, key=ends.__getitem__):
        free = max(ends[name], free + NAMES_APART)
        parts.append(_mark(WIDTH - RIGHT + 12, free, list(ends).index(name)))
        parts.append(f'<text x="{WIDTH - RIGHT + 24}" y="{free:.1f}" dy="4">{escape(name)}</text>')
    return parts

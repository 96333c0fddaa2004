"""A forest plot as SVG: a dot and its interval in each row, readable without colour, light and dark."""

import math
from html import escape
from typing import NamedTuple

WIDTH, LEFT, RIGHT, TOP, STEP = 720, 230, 24, 44, 24
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#222}.bar{stroke:#222;stroke-width:2}.dot{fill:#222}"
    ".grid{stroke:#ccc}.zero{stroke:#222;stroke-dasharray:3 3}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.bar{stroke:#ddd}.dot{fill:#ddd}"
    ".grid{stroke:#444}.zero{stroke:#ddd}}"
)


class Row(NamedTuple):
    """A mean and the ends of its interval, in the unit of the axis."""

    label: str
    mean: float
    low: float
    high: float


def forest(rows: list[Row], unit: str) -> str:
    """The rows in the order given; the axis holds zero and every interval, with a line every two units."""
    low = 2 * math.floor(min(0.0, *(row.low for row in rows)) / 2)
    high = 2 * math.ceil(max(0.0, *(row.high for row in rows)) / 2)
    bottom = TOP + STEP * len(rows)

    def x(value: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (value - low) / (high - low):.1f}"

    parts = [f'<text x="{LEFT}" y="16">{escape(unit)}</text>']
    for tick in range(low, high + 1, 2):
        kind, told = ("grid", f"{tick:+d}") if tick else ("zero", "0")
        parts.append(f'<line class="{kind}" x1="{x(tick)}" x2="{x(tick)}" y1="{TOP - 8}" y2="{bottom}"/>')
        parts.append(f'<text x="{x(tick)}" y="{TOP - 12}" text-anchor="middle">{told}</text>')
    for n, row in enumerate(rows):
        y = TOP + STEP * n + STEP / 2
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{escape(row.label)}</text>')
        parts.append(f'<line class="bar" x1="{x(row.low)}" x2="{x(row.high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot" cx="{x(row.mean)}" cy="{y}" r="4.5"/>')
    body = "\n".join(parts)
    box = f'viewBox="0 0 {WIDTH} {bottom + 8}" width="{WIDTH}" height="{bottom + 8}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">\n<style>{STYLE}</style>'
    return f"{head}\n{body}\n</svg>\n"

"""The committed table: a line of JSON a cell, and as Markdown with the exponent of growth."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Cell = dict[str, Any]
KEY = ("code", "rows", "command")
HEAD = ("command", "rows", "rows/s", "s", "CPU s", "MB", "scratch MB", "files", "exponent")


def read(file: Path) -> list[Cell]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def keep(file: Path, cell: Cell) -> None:
    """Put a cell in the place of the one with its key, else at the end."""
    cells = {tuple(old[name] for name in KEY): old for old in read(file)}
    cells[tuple(cell[name] for name in KEY)] = cell
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(found)}\n" for found in cells.values()))


def markdown(cells: Sequence[Cell]) -> str:
    """The cells of one code by command, then rows."""
    commands = list(dict.fromkeys(cell["command"] for cell in cells))
    ordered = sorted(cells, key=lambda cell: (commands.index(cell["command"]), cell["rows"]))
    lines = [HEAD, ["---"] * len(HEAD), *(_line(cell, ordered) for cell in ordered)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def growth(cells: Sequence[Cell]) -> str:
    """A line a command: wall seconds at every size, then rows/s, memory and exponent at the largest."""
    sizes = sorted({cell["rows"] for cell in cells})
    head = ("command", *(f"{size:,}: s" for size in sizes), "rows/s", "MB", "exponent")
    lines = [head, ("---", *["---:"] * (len(head) - 1))]
    for command in dict.fromkeys(cell["command"] for cell in cells):
        found = {cell["rows"]: _line(cell, cells) for cell in cells if cell["command"] == command}
        seconds = [found[size][3] if size in found else "" for size in sizes]
        largest = found[max(found)]
        lines.append((command, *seconds, largest[2], largest[5], largest[8]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(cell: Cell, cells: Sequence[Cell]) -> list[str]:
    ended = cell["ended"]
    seconds = f"{cell['seconds']:,.1f}" if ended else f"> {cell['seconds']:,.0f}"
    rate = f"{cell['made'] / cell['seconds']:,.0f}" if ended else ""
    power = exponent(cell, cells)
    return [
        cell["command"],
        f"{cell['rows']:,}",
        rate,
        seconds,
        f"{cell['cpu']:,.1f}",
        f"{cell['memory'] / 1e6:,.0f}",
        f"{cell['scratch'] / 1e6:,.0f}",
        f"{cell['files']:,}",
        "" if power is None else f"{power:.2f}",
    ]


def exponent(cell: Cell, cells: Sequence[Cell]) -> float | None:
    """e where the time of the processors has grown as rows^e since the next smaller size; 1 is linear."""
    same = [one for one in cells if one["command"] == cell["command"] and one["ended"]]
    smaller = [one for one in same if one["rows"] < cell["rows"]]
    if not smaller or cell not in same:
        return None
    before = max(smaller, key=lambda one: int(one["rows"]))
    return math.log(cell["cpu"] / before["cpu"]) / math.log(cell["rows"] / before["rows"])

"""Tables in the form that is asked for: aligned text, GitHub's Markdown, or CSV."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from rpo_cli.cli.output import table
from rpo_cli.text import printable

Format = Literal["md", "csv"]
MARKUP = re.compile(r"([\\|`*_<])")  # what would begin or end something in a cell


class Table(NamedTuple):
    """A column without a title (an interval) belongs to the one before; the first `keys` are names."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    keys: int = 1


def text_of(found: Table) -> str:
    """For people; "" without a row."""
    return table(found.header, found.rows, keys=found.keys) if found.rows else ""


def markdown(tables: Iterable[Table]) -> str:
    """GitHub's tables, an empty line between them; an interval stands in the cell of its value."""
    return "\n\n".join("\n".join(_lines(found)) for found in tables if found.rows)


def _lines(found: Table) -> Iterator[str]:
    yield _line(_joined(found.header, found.header))
    columns = len(_joined(found.header, found.header))
    yield _line(["---"] * found.keys + ["---:"] * (columns - found.keys))
    for row in found.rows:
        yield _line(_joined(found.header, row))


def _joined(header: Sequence[str], row: Sequence[Any]) -> list[str]:
    cells: list[str] = []
    for title, value in zip(header, row, strict=True):
        text = MARKUP.sub(r"\\\1", printable(" ".join(str(value).split())))
        if title or not cells:
            cells.append(text)
        else:
            cells[-1] = f"{cells[-1]} {text}".strip()
    return cells


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def csv_text(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A line of names, then the rows; numbers with every digit, nothing where there is no number."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow("" if isinstance(cell, float) and not math.isfinite(cell) else cell for cell in row)
    return out.getvalue().rstrip("\n")

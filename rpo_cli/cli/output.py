"""The one console: data to stdout, progress and hints to stderr, in three modes.

human: aligned text. json: one document on stdout. quiet: only the path or name that a script needs.
Whatever came from files or models is printed without control characters.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any, Literal, TextIO

import typer
from rich.cells import cell_len

from rpo_cli.cli.progress import Bar, Lines, Noting
from rpo_cli.protocols import Observer, Silent
from rpo_cli.text import printable

NARROWEST = 12  # characters of a column that is broken
Mode = Literal["human", "json", "quiet"]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no hints, no tables.")]


def write(text: str, stream: TextIO) -> None:
    """Print and flush; a reader that has gone away (`| head`) is no error."""
    try:
        stream.write(printable(text))
        stream.flush()
    except BrokenPipeError:
        # the interpreter flushes once more at exit: give it something that can be written to
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def fail(message: str, hint: str) -> None:
    """The two parts every failure has; further lines of a message are indented under the first."""
    first, *rest = message.strip().splitlines() or [""]
    body = "".join(f"\n  {line.strip()}" for line in rest)
    write(f"error: {first}{body}\nhint: {' '.join(hint.split())}\n", sys.stderr)


@dataclass(frozen=True)
class Output:
    """How one command speaks."""

    mode: Mode
    notes: list[str] = field(default_factory=list)  # of this command, which --json tells too

    def observer(self) -> Observer:
        """Draws progress: a bar on a terminal, a line now and then elsewhere; keeps what is noted."""
        if self.mode == "quiet":
            return Silent()
        lines = Lines(lambda text: write(f"{text}\n", sys.stderr))
        return Noting(Bar() if sys.stderr.isatty() else lines, self.notes)

    def result(self, data: Any, text: str, *, essence: str = "") -> None:
        """A command's one result: `data` as JSON, `text` for people, `essence` for --quiet scripts."""
        said = {"human": text, "quiet": essence}.get(self.mode)
        if self.mode == "json":
            # ASCII: a control character in the data stays data, and every terminal can show it
            found = plain(data)
            if self.notes and isinstance(found, dict):
                # a report may hold some itself
                found = {**found, "notes": list(dict.fromkeys([*found.get("notes", ()), *self.notes]))}
            said = json.dumps(found, indent=2, allow_nan=False)
        if said:
            write(f"{said}\n", sys.stdout)

    def hint(self, text: str) -> None:
        if self.mode == "human":
            write(f"{text}\n", sys.stderr)


def plain(value: Any) -> Any:
    """Reports as JSON types: NaN and infinity, which JSON lacks, become null."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(inner) for inner in value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, keys: int = 1) -> str:
    """Columns aligned by what a terminal shows (wide characters count two); numbers to the right.

    A terminal that is too narrow gets the columns in blocks one below the other, each with the first `keys`
    columns again; a column without a title (an interval) stays with the one before.
    """
    cells = [[printable(" ".join(str(cell).split())) for cell in row] for row in rows]
    widths = [max(cell_len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) for row in rows) for i in range(len(header))
    ]
    blocks = _blocks(header, widths, keys, _room())
    parts = []
    for block in blocks:
        told = [row for row in cells if len(blocks) == 1 or any(row[i] for i in block[keys:])]
        parts.append(
            "\n".join(
                "  ".join(_pad(row[i], widths[i], numeric[i]) for i in block).rstrip()
                for row in [list(header), *told]
            )
        )
    return "\n\n".join(parts)


def listing(header: Sequence[str], rows: Sequence[Sequence[Any]], *, keys: int = 1) -> str:
    """Columns of text that fit a terminal, or 80 columns in a pipe: all but the first `keys` are broken.

    The widest gives way first, so that short ones stay on one line.
    """
    cells = [list(header), *([printable(" ".join(str(cell).split())) for cell in row] for row in rows)]
    widths = [max(cell_len(row[place]) for row in cells) for place in range(len(header))]
    while sum(widths) + 2 * (len(widths) - 1) > room():
        place = max(range(keys, len(widths)), key=lambda place: widths[place])
        if widths[place] <= NARROWEST:
            break
        widths[place] -= 1
    lines = []
    for row in cells:
        broken = [
            wrap(cell, width, break_on_hyphens=False) or [""]
            for cell, width in zip(row, widths, strict=True)
        ]
        for parts in zip_longest(*broken, fillvalue=""):
            padded = (_pad(part, width, False) for part, width in zip(parts, widths, strict=True))
            lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def room() -> int:
    """Characters of a line: as many as the terminal shows, 79 where there is none."""
    return _room() or 79


def _room() -> int | None:
    """Characters of a line that the terminal does not break; None: stdout is no terminal."""
    return max(20, shutil.get_terminal_size().columns - 1) if sys.stdout.isatty() else None


def _blocks(header: Sequence[str], widths: Sequence[int], keys: int, room: int | None) -> list[list[int]]:
    """Places of the columns that stand side by side, the first `keys` in every block."""
    groups: list[list[int]] = []
    for place in range(keys, len(header)):
        if header[place] or not groups:
            groups.append([])
        groups[-1].append(place)
    lead = list(range(min(keys, len(header))))
    blocks = [lead[:]]
    for group in groups:
        block = [*blocks[-1], *group]
        wide = sum(widths[place] + 2 for place in block) - 2
        if room is not None and wide > room and len(blocks[-1]) > keys:
            blocks.append([*lead, *group])
        else:
            blocks[-1] = block
    return blocks


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - cell_len(cell))
    return space + cell if right else cell + space


def folded(text: str) -> str:
    """A long list in lines that a terminal, of 80 columns if not fewer, does not break within an item."""
    width = min(79, room())
    lines = wrap(text, width, subsequent_indent="  ", break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def duration(seconds: float) -> str:
    """ "40 s", "12 min" or "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.3g} h"


def counted(counts: Mapping[str, int]) -> str:
    """ "black_image 3, corrupt_image 1", the most frequent first."""
    return ", ".join(
        f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: -item[1])
    )


def size(count: int | None) -> str:
    """Bytes in the unit that keeps three digits."""
    if count is None:
        return "unknown"
    value, units = float(count), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}" if value < 1000 else f"{value / 1000:,.3g} TB"

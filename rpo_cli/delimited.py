"""CSV and TSV by a rule, never by a guess: what a header and its rows say together, or an error.

The delimiter is the one that Excel's first line `sep=;` names, else one that stands in the header (.csv:
comma or semicolon; .tsv: tab; a header of one cell: the ending's own) and gives every row as many cells as
the header has. Quotes are those of RFC 4180 where every quoted cell is well formed; a TSV in which one is
not has no quoting at all.
"""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from rpo_cli.errors import UsageError
from rpo_cli.text import DELIMITER_NAMES

Quoting = Literal["rfc4180", "none"]
Ends = Literal["\n", "\r"]
QUOTINGS: dict[str, tuple[Quoting, ...]] = {".csv": ("rfc4180",), ".tsv": ("rfc4180", "none")}
DELIMITERS = {".csv": (",", ";"), ".tsv": ("\t",)}
SAYS = {char: name for name, char in DELIMITER_NAMES.items()}
# Excel's own first line, which names the delimiter and is no row
SEP = re.compile(r'"?sep=([^"\r\n])"?(?:\r\n|\n|\r)', re.IGNORECASE)
# the csv module has no way to say "no limit" but a number, and one cell is never this large on purpose
LONGEST = 2**30


@dataclass(frozen=True)
class Table:
    """Cells as they were written; the rows are parsed anew each time, so that they are never all in memory.

    Attributes:
        header: names of the columns, less outer white space.
        count: how many rows there are.
        blank: lines without anything, which are no rows.
        note: what a user should know of how it was read; "" for nothing.
        read: begins the rows: (number of the line that a row begins on, its cells).
    """

    header: tuple[str, ...]
    count: int = 0
    blank: int = 0
    note: str = ""
    read: Callable[[], Iterator[tuple[int, list[str]]]] = lambda: iter(())

    @property
    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """(number of the line that it begins on, cells) of every row."""
        return self.read()

    def mappings(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(line, column → cell); a column without a name is none."""
        for line, cells in self.rows:
            pairs = zip(self.header, cells, strict=True)
            yield line, {name: cell for name, cell in pairs if name}


class _Unfit(Exception):
    """A reading that does not fit, and the line at which that shows."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


@dataclass(frozen=True)
class _Reading:
    delimiter: str
    quoting: Quoting
    ends: Ends


def read_table(
    text: str, where: str, ending: str, delimiter: str | None = None, quoting: Quoting | None = None
) -> Table:
    """The table in a text.

    Args:
        where: the file, for errors.
        ending: ".csv" or ".tsv".
        delimiter, quoting: what the user says; None: found by the rule.

    Raises:
        UsageError: no reading fits: with the line at fault; or two do, and say different things.
    """
    if not text.strip("\r\n"):
        return Table(())
    text, told, skipped = _without_sep_line(text)
    fits: dict[_Reading, Table] = {}
    unfit: list[tuple[_Reading, _Unfit]] = []
    for reading in _readings(text, ending, delimiter or told, quoting):
        if any(reading.ends == "\r" and other.ends == "\n" for other in fits):
            continue  # a lone carriage return ends a line only where line feeds do not
        try:
            fits[reading] = _read(text, reading, skipped)
        except _Unfit as error:
            unfit.append((reading, error))
    if not fits:
        raise _refused(where, ending, unfit)
    return _chosen(where, fits)


def _without_sep_line(text: str) -> tuple[str, str | None, int]:
    """The text without Excel's first line `sep=;`, the delimiter that it names, and lines taken off."""
    found = SEP.match(text)
    return (text[found.end() :], found[1], 1) if found else (text, None, 0)


def _readings(text: str, ending: str, delimiter: str | None, quoting: Quoting | None) -> Iterator[_Reading]:
    lone = re.search(r"\r(?!\n)", text) is not None
    both: tuple[Ends, ...] = ("\n", "\r") if lone else ("\n",)
    for how in [quoting] if quoting else QUOTINGS[ending]:
        for ends in both:
            own = DELIMITERS[ending]
            found = [char for char in own if _width(text, _Reading(char, how, ends)) > 1]
            for char in [delimiter] if delimiter else found or own[:1]:
                yield _Reading(char, how, ends)


def _width(text: str, reading: _Reading) -> int:
    """Cells of the header; 0 where it cannot be read so."""
    try:
        return next((len(cells) for _, cells in _records(text, reading) if cells), 0)
    except _Unfit:
        return 0


def _read(text: str, reading: _Reading, skipped: int) -> Table:
    """The table by one reading, every row of it checked.

    Raises:
        _Unfit: the first line that it does not fit.
    """

    def numbered() -> Iterator[tuple[int, list[str]]]:
        return ((line + skipped, cells) for line, cells in _records(text, reading))

    def body() -> Iterator[tuple[int, list[str]]]:
        records = ((line, cells) for line, cells in numbered() if cells)
        next(records, None)
        return records

    first, header = next(((line, cells) for line, cells in numbered() if cells), (1, [""]))
    names = tuple(name.strip() for name in header)
    twice = next((name for name in names if name and names.count(name) > 1), None)
    if twice is not None:
        raise _Unfit(first, f"column '{twice}' stands twice in the header")
    count = blank = 0
    for line, cells in numbered():
        if line > first and not cells:
            blank += 1
        elif line > first and len(cells) != len(names):
            raise _Unfit(line, f"{_cells(len(cells))}, the header has {len(names)}")
        else:
            count += line > first
    return Table(names, count, blank, read=body)


def _records(text: str, reading: _Reading) -> Iterator[tuple[int, list[str]]]:
    """(line that it begins on, cells) of every record, blank lines too."""
    reader = csv.reader(
        _pieces(text, reading.ends),
        delimiter=reading.delimiter,
        quoting=csv.QUOTE_MINIMAL if reading.quoting == "rfc4180" else csv.QUOTE_NONE,
        strict=True,
    )
    while True:
        line = reader.line_num + 1
        limit = csv.field_size_limit(LONGEST)  # of the whole process: others may rely on theirs
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _Unfit(line, _why(str(error))) from error
        finally:
            csv.field_size_limit(limit)
        yield line, cells


def _pieces(text: str, end: str) -> Iterator[str]:
    """The lines of a text, each with its end."""
    start = 0
    while (stop := text.find(end, start) + 1) > 0:
        yield text[start:stop]
        start = stop
    if start < len(text):
        yield text[start:]


def _why(said: str) -> str:
    if "expected after" in said:
        return "a quoted cell goes on after its closing quote"
    if "unexpected end" in said:
        return "a quote that opens here never closes"
    if "new-line character" in said:
        return "a carriage return inside a cell that is not quoted"
    return said


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _refused(where: str, ending: str, unfit: list[tuple[_Reading, _Unfit]]) -> UsageError:
    """The reading that goes farthest says what is wrong."""
    reading, error = max(unfit, key=lambda item: item[1].line)
    char = SAYS.get(reading.delimiter, repr(reading.delimiter))
    how = f"by {char}, {'quotes of RFC 4180' if reading.quoting == 'rfc4180' else 'no quoting'}"
    return UsageError(
        f"{where}:{error.line}: {error} (read {how})",
        f"cells that hold {char}, quotes or line breaks stand in quotes, inner quotes doubled; "
        f"or say how it is written: --delimiter {'|'.join(DELIMITER_NAMES)}, --quoting rfc4180|none",
    )


def _chosen(where: str, fits: dict[_Reading, Table]) -> Table:
    """The one table that fits; quotes before none. Of two delimiters that both fit we choose none."""
    (first, table), *others = fits.items()
    for reading, other in others:
        if reading.delimiter != first.delimiter and reading.quoting == first.quoting:
            raise UsageError(
                f"{where}: both '{first.delimiter}' and '{reading.delimiter}' give every row as many cells",
                "say which it is: --delimiter comma|semicolon",
            )
        if other.count != table.count:
            told = f"{where}: quotes are read as quotes, which makes {table.count:,} rows"
            told += f"; without quoting there are {other.count:,}: --quoting none"
            return replace(table, note=told)
        if quoted := sum(a != b for (_, a), (_, b) in zip(table.rows, other.rows, strict=True)):
            told = f"{where}: quotes around cells of {quoted:,} rows are read as quotes, not as text"
            return replace(table, note=f"{told}; --quoting none keeps them")
    return table

"""Tables of paths: CSV, TSV, JSON lines or list, Parquet, whose rows name pictures beside them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from os.path import normpath
from pathlib import Path
from typing import Any
from unicodedata import normalize

from rpo_cli.delimited import DELIMITERS, read_table
from rpo_cli.exchange.importers.layouts import Layout, coded, layout_of, to_entry
from rpo_cli.exchange.importers.parquet import columns_of, rows_of
from rpo_cli.exchange.incoming import Bad, Entry, Options, Source, encoded, entries, ordered, refuse
from rpo_cli.exchange.places import Place, below, touch
from rpo_cli.exchange.raw_rows import BadRow, is_list, json_items, json_lines
from rpo_cli.pictures import ENDINGS
from rpo_cli.text import delimiter_of, read_text

JSON = (".json", ".jsonl", ".ndjson")
LOOKED_AT = 20  # rows whose names say what the columns are
HINT = "check the file, or name another --format; see `rpo list importers`"


@dataclass
class Named:
    """One table and its rows, with the line that was read last, for errors."""

    table: Place
    options: Options
    source: Place  # which holds the pictures, beside the table or elsewhere
    layout: Layout = field(init=False)
    columns: dict[str, None] = field(init=False)
    note: str = ""
    used: set[str] = field(default_factory=set)
    _read: dict[str, None] = field(default_factory=dict)  # columns that entries were made of
    _line: str = ""

    def __post_init__(self) -> None:
        names: dict[str, None] = {}
        for _, row in islice(self._rows(), LOOKED_AT):
            names |= {} if not isinstance(row, dict) else dict.fromkeys(row)
        self.columns = names
        layout = layout_of(list(names), [], self.options)
        if layout.missing:
            has = ", ".join(names) or "nothing"
            raise refuse(self.table, f"no column {', '.join(layout.missing)}", has, HINT)
        self.layout, note = coded(layout, self._values)
        self.note = "; ".join(filter(None, (self.note, note)))

    def _values(self, column: str) -> Iterator[Any]:
        return (row.get(column) for _, row in self._rows() if isinstance(row, dict))

    def rows(self) -> Iterator[Any]:
        """Every row, as a mapping or a BadRow."""
        for line, row in self._rows():
            self._line = line
            self.columns |= dict.fromkeys(row) if isinstance(row, dict) else {}
            known = isinstance(row, dict | BadRow)
            yield row if known else BadRow("bad_json", "not a JSON object")

    def _rows(self) -> Iterator[tuple[str, Any]]:
        table, o, ending = self.table, self.options, self.table.suffix.lower()
        if ending == ".parquet":
            yield from ((f"row {n}", row) for n, row in rows_of([table], columns_of([table])))
        elif ending in DELIMITERS:
            touch(table)
            text = read_text(table, o.encoding)
            found = read_table(text, str(table), ending, delimiter_of(o.delimiter), o.quoting)
            self.note = found.note
            yield from ((str(line), row) for line, row in found.mappings())
        elif ending == ".json" and is_list(table, o.encoding):
            yield from ((f"item {n}", row) for n, row in json_items(table, o.encoding))
        else:
            yield from ((str(n + 1), row) for n, row in json_lines(table, o.encoding))

    def unused(self) -> list[str]:
        """Columns of the rows read so far that no entry is made of."""
        return [name for name in self.layout.unused(self.columns) if name not in self._read]

    def where(self) -> str:
        """File and line of the row that was read last."""
        return f"{self.table.name}:{self._line}"

    def entry(self, row: int, raw: dict[str, Any]) -> Entry:
        return to_entry(self._layout_of(raw), self._picture, row, raw)

    def _layout_of(self, raw: dict[str, Any]) -> Layout:
        """The table's; that of a row's own columns where it has none of the table's pictures."""
        if any(name in raw for name in self.layout.pictures):
            return self.layout
        own = layout_of(list(raw), [], replace(self.options, columns={}))
        if own.missing:
            return self.layout
        self._read |= dict.fromkeys(own.used)
        return own

    def _picture(self, value: Any, column: str) -> bytes:
        root = self.options.images or self.table.parent
        if isinstance(value, str):
            self.used.add(value)
        within = self.source if self.options.images is None else None
        return encoded(value, column, root, within)


def of_tables(tables: list[Place], root: Place, options: Options, *, folder: bool = False) -> Source:
    """The rows of one table after another, each with pictures relative to its own folder.

    Args:
        folder: the tables tell of all pictures beside them.

    Raises:
        UsageError: a table that cannot be read, or that lacks a column.
    """
    found = [Named(table, options, root) for table in tables]

    def read(start: int) -> Iterator[Entry | Bad]:
        current = found[0]

        def numbered() -> Iterator[tuple[int, Any]]:
            nonlocal current
            row = 0
            for current in found:
                for raw in current.rows():
                    if row >= start:
                        yield row, raw
                    row += 1

        return entries(numbered(), lambda row, raw: current.entry(row, raw), lambda _: current.where())

    notes = [one.note for one in found if one.note]
    return Source(
        root=root,
        files=tuple(tables),
        judged_by="source",
        read=read,
        note="; ".join(dict.fromkeys(notes)),
        unused=lambda: list(dict.fromkeys(name for one in found for name in one.unused())),
        left=partial(_unnamed, found, options) if folder else list,
    )


def _unnamed(found: list[Named], options: Options) -> list[str]:
    """Pictures beside the tables that no row names."""
    count = 0
    for one in found:
        root = options.images or one.table.parent
        used = {_plainly(name, root) for name in one.used}
        others = [other.table.parent for other in found if other is not one]
        for file in _files(root):
            name = below(file, root)
            elsewhere = any(
                below(file, other) is not None and below(other, root) is not None for other in others
            )
            count += name is not None and normalize("NFC", name) not in used and not elsewhere
    return [f"{count:,} pictures that no row names were left out"] if count else []


def _plainly(name: str, root: Place) -> str:
    """A name in a table as `below` gives it, in one Unicode form."""
    found = normpath(name.replace("\\", "/"))
    if isinstance(root, Path) and Path(found).is_relative_to(root.resolve()):
        found = str(Path(found).relative_to(root.resolve()))
    return normalize("NFC", found)


def _files(folder: Place) -> Iterable[Place]:
    return (file for file in ordered(folder.rglob("*")) if file.suffix.lower() in ENDINGS)


def listing(path: Place) -> str:
    """The first names of a folder, for errors."""
    names = sorted(item.name for item in path.iterdir()) if path.is_dir() else [path.name]
    return ", ".join(names[:10]) or "nothing"

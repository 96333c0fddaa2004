"""import: other people's pictures, judgements and critiques as rows of the run.

A source is read row by row in chunks of `run.rows_per_part` rows; each chunk is committed before the next
is read, so memory is bounded and a kill costs one chunk. Keys are made of content (a picture under its
prompt, two pictures and what was said of them), so the same row never comes in twice, whatever source it
stands in. run.json names the groups of rows that take part in the run.
"""

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby, takewhile
from pathlib import Path

from rpo_cli import registry
from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.incoming import Options, Source
from rpo_cli.exchange.licences import declared
from rpo_cli.line.context import Line
from rpo_cli.line.import_rows import RowMaker
from rpo_cli.line.imports import STAGE
from rpo_cli.records import Reject, Row, canonical_json, content_key

TABLES = ("prompts", "images", "critiques", "preferences")
GENERIC = ("parquet", "jsonl")  # asked last: others know better what such a file is


@dataclass(frozen=True)
class ImportReport:
    """What a run has of one source, earlier calls included.

    Attributes:
        rows: rows of the source that were read now.
        judged: pairs with a preference; `ties` and `unanswered` have none.
        rejects: reason → rows.
        notes: what a user should know of how the source was read.
    """

    source: str
    format: str
    rows: int
    prompts: int
    images: int
    judged: int
    ties: int
    unanswered: int
    critiques: int
    rejected: int
    rejects: dict[str, int]
    license: str
    notes: tuple[str, ...]


def import_source(
    line: Line,
    path: Path,
    *,
    format: str | None = None,
    limit: int | None = None,
    split: str | None = None,
    images: Path | None = None,
    column: str | None = None,
    license: str | None = None,
) -> ImportReport:
    """Take the pictures, judgements and critiques of a source into the run.

    Args:
        format: name of an importer; None: found out from the files.
        limit: only the first rows of the source.
        license: of the source, where its own card does not say it.

    Raises:
        UsageError: no source there, no format that fits, or columns that are missing.
    """
    options = Options(asked=format is not None, split=split, images=images, column=column)
    name, source = _open(path, format, options)
    said = license or source.license or declared(source.root) or "unknown"
    group = _group(name, source, options)
    about = {"format": name, "source": path.resolve().name, "license": said}
    settings = canonical_json({"import": name, "source": about["source"], "license": said})
    notes = [f"format: {name}" if format is None else "", source.note]
    for note in filter(None, notes):
        line.observer.note(note)
    with line.store.lock(STAGE):
        line.record(imports={group: about})
        maker = RowMaker(group, about["source"], settings, source.judged_by)
        rows = _take(line, source, maker, limit)
    return _report(line, maker, about, rows, tuple(filter(None, notes)))


def _open(path: Path, format: str | None, options: Options) -> tuple[str, Source]:
    if not path.exists():
        siblings = [str(item) for item in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UsageError(
            f"{path}: no such file or folder{nearest(str(path), siblings)}",
            "for one of the hub: hf download --repo-type dataset ID --local-dir FOLDER, then import FOLDER",
        )
    ours = registry.importers
    names = [*(name for name in registry.names("importers") if name not in ours), *ours]
    names.sort(key=lambda name: name in GENERIC)
    for name in [format] if format else names:
        source = registry.load("importers", name)(path, options)
        if source is not None:
            return name, source
    raise UsageError(
        f"{path}: no format fits what is there",
        f"--format NAME says what is missing; one of {', '.join(registry.names('importers'))}",
    )


def _group(name: str, source: Source, options: Options) -> str:
    """The folder of a source's rows: what its files are called and how large they are."""
    root = source.root.resolve()
    files = sorted(
        (str(file.resolve().relative_to(root)) if file.resolve().is_relative_to(root) else file.name,
         file.stat().st_size)
        for file in source.files
    )  # fmt: skip
    return content_key(STAGE, name, root.name, files, options.column)[:8]


# --- rows ----------------------------------------------------------------------------------------------


@dataclass
class _Chunk:
    """The rows of one chunk, each key once."""

    rows: dict[str, dict[str, Row]] = field(default_factory=dict)

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self.rows.setdefault(row.table, {}).setdefault(row.key, row)


def _take(line: Line, source: Source, maker: RowMaker, limit: int | None) -> int:
    """Read the source from its first chunk that is not whole; returns how many rows were read."""
    size = line.settings.run.rows_per_part
    start = _resume(line, maker.group, size)
    present = {table: line.store.keys(table) for table in (*TABLES, "rejects")}
    total = min(limit or source.rows or 0, source.rows or limit or 0)
    line.observer.start(STAGE, total, min(start, total))
    read = 0
    entries = source.read(start)
    if limit is not None:
        entries = takewhile(lambda entry: entry.row < limit, entries)
    try:
        for _, members in groupby(entries, key=lambda entry: entry.row // size):
            chunk = _Chunk()
            for entry in members:
                rows = maker.rows(entry)
                rejected = isinstance(rows[0], Reject)
                chunk.add(rows)
                read += 1
                line.observer.advance(0 if rejected else 1, 1 if rejected else 0)
            _commit(line, chunk, maker.group, present)
    finally:
        line.observer.finish()
    return read


def _resume(line: Line, group: str, size: int) -> int:
    """The first row of the last chunk of which there is anything; chunks before it are whole."""
    places = [
        *line.store.columns("images", ["index"], group=group)["index"].to_pylist(),
        *line.store.columns("preferences", ["row"], group=group)["row"].to_pylist(),
    ]
    return max(places, default=0) // size * size


def _commit(line: Line, chunk: _Chunk, group: str, present: dict[str, set[str]]) -> None:
    """What of the chunk is new, as one part per table; judgements last: they name the pictures."""
    for table in ("prompts", "images", "critiques", "rejects", "preferences"):
        rows = [row for key, row in chunk.rows.get(table, {}).items() if key not in present[table]]
        present[table] |= {row.key for row in rows}
        if rows:
            line.store.commit(table, rows, group="" if table == "rejects" else group)


def _report(
    line: Line, maker: RowMaker, about: dict[str, str], rows: int, notes: tuple[str, ...]
) -> ImportReport:
    store, group = line.store, maker.group
    counts = {table: store.counts(table).get(group, 0) for table in TABLES}
    choices = Counter(store.columns("preferences", ["choice"], group=group)["choice"].to_pylist())
    rejects = Counter(
        row["reason"]
        for row in store.columns("rejects", ["stage", "reason", "settings"]).to_pylist()
        if row["stage"] == STAGE and row["settings"] == maker.settings
    )
    return ImportReport(
        source=about["source"],
        format=about["format"],
        rows=rows,
        prompts=counts["prompts"],
        images=counts["images"],
        judged=choices["a"] + choices["b"],
        ties=choices["tie"],
        unanswered=choices[None],
        critiques=counts["critiques"],
        rejected=rejects.total(),
        rejects=dict(sorted(rejects.items())),
        license=about["license"],
        notes=notes,
    )

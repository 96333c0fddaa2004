"""import: other people's pictures, judgements and critiques as rows of the run.

A source is read row by row in chunks of `run.rows_per_part` rows; each chunk is committed before the next
is read, so memory is bounded and a kill costs one chunk. Keys are made of content (a picture under its
prompt, two pictures and what was said of them), so the same row never comes in twice, whatever source it
stands in. run.json names the groups of rows that take part in the run.
"""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rpo_cli import registry
from rpo_cli.errors import UsageError, nearest
from rpo_cli.exchange.hub_folder import URIS, HubPath, open_repository, parse
from rpo_cli.exchange.incoming import Options, Place, Source, below
from rpo_cli.exchange.licences import declared
from rpo_cli.identity import HUB_ID
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
    path: str | Path,
    *,
    format: str | None = None,
    limit: int | None = None,
    split: str | None = None,
    images: str | Path | None = None,
    column: str | None = None,
    license: str | None = None,
) -> ImportReport:
    """Take the pictures, judgements and critiques of a source into the run.

    Args:
        path: a file or folder, or a dataset of the hub, which is read where it lies: OWNER/NAME or
            hf://datasets/OWNER/NAME, also with @REVISION. run.json keeps its commit: the run stays there.
        format: name of an importer; None: found out from the files.
        limit: only the first rows of the source.
        license: of the source, where its own card does not say it.

    Raises:
        UsageError: no source there, no format that fits, or columns that are missing.
        RpoError: the hub cannot be reached, or wants a login.
    """
    pins: dict[str, str] = {}
    place = _place(line, path, pins)
    pictures = None if images is None else _place(line, images, pins)
    options = Options(asked=format is not None, split=split, images=pictures, column=column)
    name, source = _open(place, format, options)
    card = source.root.top if isinstance(source.root, HubPath) else source.root
    said = license or source.license or declared(card) or "unknown"
    group = _group(name, source, options)
    about = {"format": name, "source": _told(place), "license": said}
    about |= {"revision": place.repository.commit} if isinstance(place, HubPath) else {}
    settings = canonical_json({"import": name, **{key: about[key] for key in about if key != "format"}})
    notes = [f"format: {name}" if format is None else "", source.note]
    for note in filter(None, notes):
        line.observer.note(note)
    with line.store.lock(STAGE):
        line.record(imports={group: about}, **({"datasets": pins} if pins else {}))
        maker = RowMaker(group, about["source"], settings, source.judged_by)
        rows = _take(line, source, maker, limit)
    return _report(line, maker, about, rows, tuple(filter(None, notes)))


def _place(line: Line, source: str | Path, pins: dict[str, str]) -> Place:
    """What a user's words mean: what is on this machine wins; a commit of the hub is noted in `pins`."""
    path, text = Path(source), str(source)
    if path.exists():
        return path
    siblings = [str(item) for item in path.parent.iterdir()] if path.parent.is_dir() else []
    near = nearest(str(path), siblings)
    if not text.startswith(URIS) and (near or not HUB_ID.fullmatch(text.partition("@")[0])):
        raise UsageError(
            f"{text}: no such file or folder{near}", "of the hub: OWNER/NAME, or hf://datasets/OWNER/NAME"
        )
    reference = parse(text)
    found = open_repository(reference, line.store.read_manifest().get("datasets", {}))
    pins[reference.pin] = found.repository.commit
    return found


def _told(place: Place) -> str:
    """A source's name in rows and on cards."""
    if isinstance(place, HubPath):
        return "/".join([place.repository.id, *place.path.parts])
    return place.resolve().name


def _open(path: Place, format: str | None, options: Options) -> tuple[str, Source]:
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
    files = sorted((below(file.resolve(), root) or file.name, file.stat().st_size) for file in source.files)
    home = str(root) if isinstance(root, HubPath) else root.name
    return content_key(STAGE, name, home, files, options.column)[:8]


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
    chunk, place = _Chunk(), start // size
    try:
        for entry in source.read(start):
            if limit is not None and entry.row >= limit:
                break
            if entry.row // size != place:  # rows may be missing in between
                _commit(line, chunk, maker.group, present)
                chunk, place = _Chunk(), entry.row // size
            rows = maker.rows(entry)
            rejected = isinstance(rows[0], Reject)
            chunk.add(rows)
            read += 1
            line.observer.advance(0 if rejected else 1, 1 if rejected else 0)
            if (entry.row + 1) % size == 0:  # kept before the next row is read, which may fail
                _commit(line, chunk, maker.group, present)
                chunk = _Chunk()
            if entry.row + 1 == limit:  # nothing beyond it is read
                break
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

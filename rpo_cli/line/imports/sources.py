"""The imported rows of a run by source: which take part, what each gives, and taking one out.

An entry of run.json without a place is a group of rows that all take part: winners that are given to a
round, or what an rpo before the ledger has imported.
"""

from collections import Counter
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from rpo_cli.errors import RpoError, UsageError, nearest
from rpo_cli.keysets import Keys, union
from rpo_cli.line.session import Line
from rpo_cli.records import canonical_json
from rpo_cli.store import Store

STAGE = "import"
TABLE = "claims"  # the ledger of imports, see `ledger.py`
PLACE = ("claim_id", "source", "start", "generation", "upto")
TRIES = 3
TOLD = ("source", "format", "license", "revision")  # of a source, on cards
Entries = dict[str, dict[str, Any]]


def entries(store: Store) -> Entries:
    """Everything that imports have left in run.json: id → what is known of the source."""
    return dict(store.read_manifest().get("imports", {}))


def sources(line: Line) -> Entries:
    """The sources that take part, by id."""
    return {key: about for key, about in entries(line.store).items() if not about.get("withdrawn")}


def card_sources(line: Line) -> list[dict[str, str]]:
    """What cards say of the sources that take part: nothing of where they lie on somebody's machine."""
    told = {
        canonical_json(said): said
        for about in sources(line).values()
        for said in [{name: about[name] for name in TOLD if name in about}]
    }
    return [told[text] for text in sorted(told)]


def has_ledger(about: dict[str, Any]) -> bool:
    return "place" in about


def import_groups(line: Line) -> set[str]:
    """The groups of rows that imports have made, of withdrawn sources too."""
    return set(entries(line.store))


def imported(line: Line, table: str) -> Keys:
    """Keys of the imported rows of a table that take part."""
    manifest = line.store.read_manifest().get("imports", {})
    if not manifest:
        return Keys.of(())
    parts = [part.name for name in (TABLE, table) for part in line.store.parts(name)]
    state, memory = (manifest, parts), f"imported {table}"
    if line.memory.get(memory, (None,))[0] != state:
        line.memory[memory] = (state, _imported(line, table))
    found: Keys = line.memory[memory][1]
    return found


def _imported(line: Line, table: str) -> Keys:
    found = sources(line)
    groups = {key for key, about in found.items() if not has_ledger(about)}
    keys = Keys.of(claimed(line.store, found.keys() - groups, table))
    parts = [part for part in line.store.parts(table) if part.group in groups]
    return union([keys, *(line.store.part_keys(table, part) for part in parts)])


def claimed(store: Store, sources: Set[str], table: str) -> list[str]:
    """Keys of a table that the current claims of these sources name; one for each claim that names it."""
    best: dict[tuple[str, int], tuple[tuple[int, int, str], pa.Scalar]] = {}
    for data in scanned(store, [*PLACE, table]):
        for place, row in zip(data.select(PLACE).to_pylist(), data.column(table), strict=True):
            at, rank = (place["source"], place["start"]), rank_of(place)
            if place["source"] in sources and (at not in best or best[at][0] < rank):
                best[at] = (rank, row)
    return [key for _, keys in best.values() for key in keys.as_py()]


def rank_of(place: dict[str, object]) -> tuple[int, int, str]:
    generation, upto, key = place["generation"], place["upto"], place["claim_id"]
    assert isinstance(generation, int)
    assert isinstance(upto, int)
    return generation, upto, str(key)


def scanned(store: Store, columns: list[str] | None, source: str | None = None) -> list[pa.Table]:
    """The parts of the ledger. An import that runs now may delete one: then all are read anew."""
    for attempt in range(TRIES):
        try:
            return list(store.scan(TABLE, columns, group=source))
        except RpoError as error:
            if attempt == TRIES - 1 or not isinstance(error.__cause__, FileNotFoundError):
                raise
    raise AssertionError("unreachable")


def imported_feedback(line: Line) -> dict[tuple[str, str], str]:
    """(sha256 of a picture, prompt_id) → what imported feedback says of it; the first by key of several."""
    keys = imported(line, "critiques")
    columns = ["critique_id", "image_sha256", "prompt_id", "text"]
    rows = line.store.columns("critiques", columns, among=keys).to_pylist() if keys else []
    rows = sorted(rows, key=lambda row: str(row["critique_id"]))
    return {(row["image_sha256"], row["prompt_id"]): row["text"] for row in reversed(rows)}


def generates(line: Line) -> bool:
    """Whether pictures are wanted from a generator: always, but in a run of imports without own prompts."""
    if line.planned is not None or not sources(line):
        return True
    return "prompts" in line.store.read_manifest()


def labelled_only(line: Line) -> bool:
    """Whether every pair carries the label that it came with, so that nothing needs a score."""
    s = line.settings.pairs
    return s.strategy == "imported" and s.labels == "source" and bool(sources(line))


def rejects_of(line: Line, only: str | None = None) -> dict[str, int]:
    """Reason → rows that imports have rejected, as they were last looked at; of one source, when named."""
    found = {key: about for key, about in sources(line).items() if only in (None, key)}
    keys = set(claimed(line.store, {key for key, about in found.items() if has_ledger(about)}, "rejects"))
    settings = {settings_of_source(about) for about in found.values() if not has_ledger(about)}
    rows = line.store.columns("rejects", ["key_of", "stage", "reason", "settings"]).to_pylist()
    counts = Counter(
        row["reason"]
        for row in rows
        if row["stage"] == STAGE and (row["key_of"] in keys or row["settings"] in settings)
    )
    return dict(sorted(counts.items()))


def settings_of_source(about: dict[str, Any]) -> str:
    """What stands as the settings in every row of a source."""
    said = {name: about[name] for name in (*TOLD, "code") if name in about and name != "format"}
    return canonical_json({"import": about["format"], **said})


KEPT = ("prompts", "images", "critiques", "preferences")  # tables that imports have groups of rows in


@dataclass(frozen=True)
class ImportedSource:
    """A source as run.json has it; `rows`: how many of its rows take part, None where nobody counted."""

    id: str
    source: str
    format: str
    license: str
    rows: int | None
    withdrawn: bool


@dataclass(frozen=True)
class Withdrawn:
    """What takes part no more.

    Attributes:
        shared: rows of the source's that stay, as another source claims them too.
    """

    source: str
    id: str
    prompts: int
    images: int
    critiques: int
    preferences: int
    shared: int


def imported_sources(line: Line) -> list[ImportedSource]:
    """Every source that was imported, by name."""
    found = [_imported_source(key, about) for key, about in _named(line).items()]
    return sorted(found, key=lambda item: (item.source, item.id))


def _named(line: Line) -> Entries:
    """Entries of run.json without groups that a ledger has taken the place of."""
    return {key: about for key, about in entries(line.store).items() if "replaced" not in about}


def _imported_source(key: str, about: dict[str, Any]) -> ImportedSource:
    source, format, license = (str(about[name]) for name in ("source", "format", "license"))
    return ImportedSource(key, source, format, license, about.get("rows"), bool(about.get("withdrawn")))


def withdraw(line: Line, name: str) -> Withdrawn:
    """Take a source out of the run: its rows stay in the tables and take no part.

    Args:
        name: of the source, as `rpo status` tells it, or its id or place.

    Raises:
        UsageError: there is no such source, or more than one.
    """
    with line.store.lock(STAGE):
        key, about = _find(line, name)
        before = {table: imported(line, table) for table in KEPT}
        own = {table: _own(line, key, about, table) for table in KEPT}
        line.record(imports={key: {**about, "withdrawn": True}})
        after = {table: imported(line, table) for table in KEPT}
    gone = {table: len(before[table] - after[table]) for table in KEPT}
    shared = sum(len(own[table] & after[table]) for table in KEPT)
    return Withdrawn(about["source"], key, **gone, shared=shared)


def _own(line: Line, key: str, about: dict[str, Any], table: str) -> Keys:
    """Keys of the rows that a source claims."""
    if has_ledger(about):
        return Keys.of(claimed(line.store, {key}, table))
    return union(line.store.part_keys(table, part) for part in line.store.parts(table) if part.group == key)


def _find(line: Line, name: str) -> tuple[str, dict[str, Any]]:
    known, run = _named(line), line.store.url
    if not known:
        raise UsageError(f"{run}: nothing was imported", f"rpo import {run} SOURCE")
    found = {key: about for key, about in known.items() if name in (key, about["source"])}
    if not found:
        place = str(Path(name).resolve())
        found = {key: about for key, about in known.items() if about.get("place") in (name, place)}
    names = sorted({str(about["source"]) for about in known.values()})
    if not found:
        near = nearest(name, [*names, *known])
        raise UsageError(f"{run}: no source '{name}'{near}", f"it has: {', '.join(names)}")
    if len(found) > 1:
        told = "".join(f"\n  {key}: {_where(about)}" for key, about in sorted(found.items()))
        raise UsageError(
            f"{run}: {len(found)} sources are called '{name}'{told}",
            f"name one by its id: rpo import {run} --withdraw {min(found)}",
        )
    return next(iter(found.items()))


def _where(about: dict[str, Any]) -> str:
    told = [f"{name} {about[name]}" for name in ("split", "column", "images") if name in about]
    return ", ".join([about["format"], about.get("place", "place not known"), *told])


def dead_parts(line: Line, table: str) -> Iterator[tuple[str, int]]:
    """Name and rows of the parts of imports of which no row takes part."""
    groups, live = import_groups(line), imported(line, table)
    for part in line.store.parts(table):
        if part.group in groups:
            keys = line.store.part_keys(table, part)
            if not keys.within(live):
                yield part.name, len(keys)

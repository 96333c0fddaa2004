"""The sources of a run by name: what each gives, and taking one out.

A withdrawn source keeps its ledger, so that its import brings it back; its rows take no part, but for
those that another source claims too, and `rpo status --prune` drops what nobody claims.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError, nearest
from rpo_cli.line.imports.ledger import claimed
from rpo_cli.line.imports.sources import STAGE, Entries, entries, has_ledger, import_groups, imported
from rpo_cli.line.session import Line

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
    found = [_as_told(key, about) for key, about in _named(line).items()]
    return sorted(found, key=lambda item: (item.source, item.id))


def _named(line: Line) -> Entries:
    """Entries of run.json without groups that a ledger has taken the place of."""
    return {key: about for key, about in entries(line.store).items() if "replaced" not in about}


def _as_told(key: str, about: dict[str, Any]) -> ImportedSource:
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


def _own(line: Line, key: str, about: dict[str, Any], table: str) -> set[str]:
    """Keys of the rows that a source claims."""
    if has_ledger(about):
        return set(claimed(line.store, {key}, table))
    parts = [part for part in line.store.parts(table) if part.group == key]
    return {row for part in parts for row in line.store.part_keys(table, part)}


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
            if live.isdisjoint(keys):
                yield part.name, len(keys)

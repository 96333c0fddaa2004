"""merge: the rows that other machines made for the same run, copied part by part."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.records import TABLES
from rpo_cli.store import Store, open_store

# pairs follow from the other tables: those of a shard are pairs of a part of the rows
COPIED = tuple(table for table in TABLES if table != "pairs")


def merge(path: str | Path, others: Sequence[str | Path]) -> dict[str, int]:
    """Join the tables of shards that ran elsewhere into the run `path`; returns parts copied per table.

    A new run takes the settings and templates of the first.

    Raises:
        UsageError: a source is no run, or was made with other settings, prompts or weights.
    """
    target = open_store(path, create=True)
    sources = [open_store(other) for other in others]
    first = target if target.read_manifest() else sources[0]
    for source in sources:
        _check_same(first, source)
    if first is not target:
        _copy_settings(first, target)
    copied: dict[str, int] = {}
    for source in sources:
        for table in COPIED:
            present = target.keys(table)
            for part in source.parts(table):
                if not set(source.part_keys(table, part)) <= present:
                    target.files.write(part.name, source.files.read(part.name))
                    copied[table] = copied.get(table, 0) + 1
    return copied


def _copy_settings(source: Store, target: Store) -> None:
    """The user's files, then run.json: with it `path` is a run."""
    names = [*source.files.find("rpo.toml", ""), *source.files.find("templates", "")]
    for name in names:
        target.files.write(name, source.files.read(name))
    target.write_manifest(source.read_manifest())


def _check_same(ours: Store, theirs: Store) -> None:
    changed = list(_changed(ours.read_manifest(), theirs.read_manifest()))
    if changed:
        raise UsageError(
            f"{theirs.url}: made with others than {ours.url}: {', '.join(changed)}",
            "merge only shards of one run",
        )


def _changed(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Names of the settings, prompts and models that differ; what only one of them has does not count."""
    mine, other = ours.get("settings", {}), theirs.get("settings", {})
    for section in sorted(mine.keys() & other.keys()):
        for key in sorted(mine[section].keys() & other[section].keys()):
            if mine[section][key] != other[section][key] and (section != "run" or key == "seed"):
                yield f"{section}.{key}"
    if {ours.get("prompts", {}).get("group"), theirs.get("prompts", {}).get("group"), None} - {None} > 1:
        yield "prompts"
    models = [manifest.get("models", {}) for manifest in (ours, theirs)]
    for name in sorted(models[0].keys() & models[1].keys()):
        if models[0][name] != models[1][name]:
            yield f"model {name}"

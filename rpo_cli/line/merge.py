"""merge: the rows that other machines made for the same run, copied part by part."""

from collections.abc import Sequence
from pathlib import Path

from rpo_cli.errors import UsageError
from rpo_cli.records import TABLES
from rpo_cli.store import Store, open_store


def merge(path: str | Path, others: Sequence[str | Path]) -> dict[str, int]:
    """Join the tables of shards that ran elsewhere into the run `path`; returns parts copied per table.

    Raises:
        UsageError: a source was made with other settings.
    """
    target = open_store(path, create=True)
    sources = [open_store(other) for other in others]
    for source in sources:
        _same_settings(target, source)
    copied: dict[str, int] = {}
    for source in sources:
        if not target.read_manifest():
            target.write_manifest(source.read_manifest())
        for table in TABLES:
            present = {part.name for part in target.parts(table)}
            for part in source.parts(table):
                if part.name not in present:
                    target.files.write(part.name, source.files.read(part.name))
                    copied[table] = copied.get(table, 0) + 1
    return copied


def _same_settings(target: Store, source: Store) -> None:
    ours, theirs = target.read_manifest().get("settings"), source.read_manifest().get("settings")
    if not ours or not theirs:
        return
    changed = [
        f"{section}.{key}"
        for section in sorted(ours.keys() & theirs.keys())
        for key in sorted(ours[section].keys() | theirs[section].keys())
        if section != "run" and ours[section].get(key) != theirs[section].get(key)
    ]
    if ours["run"]["seed"] != theirs["run"]["seed"]:
        changed.append("run.seed")
    if changed:
        raise UsageError(
            f"{source.url}: made with other settings than {target.url}: {', '.join(changed)}",
            "merge only shards of one run",
        )

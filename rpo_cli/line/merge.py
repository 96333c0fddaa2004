"""merge: the rows that other machines made for the same run, copied part by part."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.line.formats import check_format
from rpo_cli.line.imports.ledger import differing
from rpo_cli.line.imports.sources import Entries, entries, has_ledger
from rpo_cli.line.steps import stages, tables
from rpo_cli.store import Store, open_store


def merge(path: str | Path, others: Sequence[str | Path]) -> dict[str, int]:
    """Join the tables of shards that ran elsewhere into the run `path`; returns parts copied per table.

    A new run takes the settings and templates of the first.

    Raises:
        UsageError: a source is no run, is to be upgraded first, or was made with other settings, prompts or
            weights, or has rows of a plugin's stage that is not installed here.
    """
    target = open_store(path, create=True)
    sources = [open_store(other) for other in others]
    first = target if target.read_manifest() else sources[0]
    for number, source in enumerate(sources):
        check_format(source, source.read_manifest())
        _check_stages(source)
        _check_same(first, source)
        for other in (target, *sources[:number]):
            _check_imports(other, source)
    if first is not target:
        _copy_settings(first, target)
    copied: dict[str, int] = {}
    for source in sources:
        for table in tables():
            if table == "pairs":  # they follow from the other tables: a shard's are of a part of the rows
                continue
            present = target.keys(table)
            for part in source.parts(table):
                if not set(source.part_keys(table, part)) <= present:
                    target.files.write(part.name, source.files.read(part.name))
                    copied[table] = copied.get(table, 0) + 1
    _join_imports(target, sources)
    return copied


def _check_stages(source: Store) -> None:
    """Rows of a stage that nobody here knows would stay behind without a word."""
    known = {spec.name for spec in stages()}
    made = {name.partition(" ")[0] for name in source.read_manifest().get("groups", {})}
    if unknown := sorted(made - known):
        raise UsageError(
            f"{source.url}: has rows of {', '.join(unknown)}, of which no stage is installed here",
            "install the plugin that made them, then merge",
        )


def _join_imports(target: Store, sources: Sequence[Store]) -> None:
    """Imported rows take part in a run where its run.json names their source; what it says of one stays."""
    imports: Entries = {}
    for source in sources:
        imports = entries(source) | imports
    if imports:
        target.update_manifest(lambda now: {**now, "imports": imports | now.get("imports", {})})


def _check_imports(ours: Store, theirs: Store) -> None:
    """One source, imported twice, must have held the same."""
    known = entries(ours)
    for key, about in entries(theirs).items():
        if key in known and has_ledger(about) and differing(ours, theirs, key):
            raise UsageError(
                f"{theirs.url}: has {about['source']} with other rows than {ours.url}",
                "import it again into both, then merge",
            )


def _copy_settings(source: Store, target: Store) -> None:
    """The user's files that are not there, then run.json: with it the target is a run."""
    for name in [*source.files.find("rpo.toml", ""), *source.files.find("templates", "")]:
        if not target.files.exists(name):
            target.files.write(name, source.files.read(name))
    target.write_manifest(source.read_manifest())


def _check_same(ours: Store, theirs: Store) -> None:
    changed = list(_changed(ours.read_manifest(), theirs.read_manifest()))
    if changed:
        raise UsageError(
            f"{theirs.url}: its rows are made otherwise than those of {ours.url}: {'; '.join(changed)}",
            "merge only shards of one run",
        )


def _changed(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[str]:
    """Stages whose rows differ in anything but the machine: a model may lie at another path there."""
    if _different("group", ours.get("prompts", {}), theirs.get("prompts", {})):
        yield "other prompts"
    before, after = ours.get("groups", {}), theirs.get("groups", {})
    for stage in sorted(before.keys() & after.keys()):
        if before[stage] != after[stage]:
            yield f"{stage} ({_reasons(stage, ours.get('settings', {}), theirs.get('settings', {}))})"


def _reasons(stage: str, ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    section = stage.partition(" ")[0]
    mine, other = ours.get(section, {}), theirs.get(section, {})
    names = [f"{section}.{key}" for key in sorted(mine) if _different(key, mine, other)]
    seed = ["run.seed"] if _different("seed", ours.get("run", {}), theirs.get("run", {})) else []
    return ", ".join(names + seed) or "another model, template or version"


def _different(key: str, ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    return key in ours and key in theirs and ours[key] != theirs[key]

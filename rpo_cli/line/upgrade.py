"""Bringing runs of an earlier rpo to the format of this one: nothing that is still right is made again.

Rows whose new key can be told are re-keyed; of those whose cannot (`line/formats.py`) it is said that they
are made again. Imported rows without a ledger take part as before, until their source is imported again.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rpo_cli.line.formats import code_unknown, current, format_of, losers_to_rekey
from rpo_cli.line.imports.adopted import upgrade_imports
from rpo_cli.line.imports.profiles import profiled, upgrade_profiles
from rpo_cli.line.steps import stages, tables
from rpo_cli.manifest import MANIFEST
from rpo_cli.records import FORMAT_VERSION, Image, Pair
from rpo_cli.store import Store, open_store
from rpo_cli.version import __version__


@dataclass(frozen=True)
class Upgrade:
    """What became of one run directory.

    Attributes:
        rows: table → rows that are there.
        rekeyed: rows of them that got another key.
        again: what → rows that stay where they are, but are not found by their key any more.
        notes: what to do about rows that take part as they are.
    """

    path: str
    before: int
    after: int
    rows: dict[str, int]
    rekeyed: int
    again: dict[str, int]
    notes: tuple[str, ...] = ()


def upgrade(path: str | Path, *, dry_run: bool = False) -> list[Upgrade]:
    """Bring a run and those nested in it (rounds, evaluations, pictures tried) to the format of this rpo.

    Raises:
        UsageError: no run there, or one of a newer rpo.
        RunLocked: another command works on it.
    """
    store = open_store(path)
    return [_upgraded(each, dry_run) for each in (store, *_nested(store))]


def _nested(store: Store) -> Iterator[Store]:
    for folder in ("train", "eval", "try"):
        for name in store.files.find(folder, f"/{MANIFEST}"):
            yield open_store(store.files.join(name.removesuffix(f"/{MANIFEST}")))


def _upgraded(store: Store, dry_run: bool) -> Upgrade:
    before, again, rekeyed = format_of(store.read_manifest()), {}, 0
    notes: tuple[str, ...] = ()
    with ExitStack() as held:
        if before < FORMAT_VERSION:
            for stage in () if dry_run else _locks():
                held.enter_context(store.lock(stage))
            manifest = store.read_manifest()
            again = profiled(store, manifest)
            notes = tuple(upgrade_imports(store, dry_run=dry_run))
            losers: dict[str, dict[str, str]] = {}
            if before < 3:
                again = code_unknown(store, manifest) | again
                losers = dict(losers_to_rekey(store, manifest))
            rekeyed = sum(map(len, losers.values()))
            if not dry_run:
                _rekey(store, losers)
                upgrade_profiles(store, manifest)
                store.update_manifest(
                    lambda now: {**current(store, now), "format": FORMAT_VERSION, "rpo": __version__}
                )
    rows = {table: len(store.keys(table)) for table in tables()}
    kept = {table: count for table, count in rows.items() if count}
    return Upgrade(store.url, before, FORMAT_VERSION, kept, rekeyed, again, notes)


def _rekey(store: Store, losers: dict[str, dict[str, str]]) -> None:
    """Write rows under their new keys, then drop what they replace, part by part: a kill does no harm.

    First the pairs that name them, while it can still be told which key became which.
    """
    _rename(store, {old: new for keys in losers.values() for old, new in keys.items()})
    for part in [part for part in store.parts("images") if part.name in losers]:
        keys = losers[part.name]
        rows = [row for row in store.part_rows("images", part) if isinstance(row, Image)]
        new = [row.model_copy(update={"image_id": keys.get(row.image_id, row.image_id)}) for row in rows]
        store.replace("images", part, new)


def _rename(store: Store, keys: dict[str, str]) -> None:
    """Let pairs name their losers by the new keys: rounds take losers of earlier ones by them."""
    for part in store.parts("pairs") if keys else ():
        rows = [row for row in store.part_rows("pairs", part) if isinstance(row, Pair)]
        if any(row.b_id in keys for row in rows):
            new = [row.model_copy(update={"b_id": keys.get(row.b_id, row.b_id)}) for row in rows]
            store.replace("pairs", part, new)


def _locks() -> tuple[str, ...]:
    """Of all that writes rows."""
    return ("import", "review", *(spec.name for spec in stages()), "build-pairs", "export")

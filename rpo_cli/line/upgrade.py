"""Runs of an earlier rpo: what of them is still right stays, what is not is named before anything is made.

From format 1 to 2: the key of a loser of sapo holds the strength of its noise: such rows are re-keyed, for
the run's settings tell what was drawn. Keys name distribution, name and version of code that is not ours:
rows of such code do not say which version made them, so they are made again. All other keys are as they
were. Imported rows without a ledger take part as before, until their source is imported again.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli import __version__, registry
from rpo_cli.errors import UsageError
from rpo_cli.manifest import MANIFEST, Manifest
from rpo_cli.records import FORMAT_VERSION, TABLES, Image, row_seed
from rpo_cli.stages.generate import ImageTask
from rpo_cli.stages.opponents import loser_key
from rpo_cli.store import Store, open_store

# stage → kind of its backend in the registry, table, entry of a row's settings that names the backend
NAMED = (
    ("critique", "critics", "critiques", "backend"),
    ("edit", "editors", "edits", "backend"),
    ("score", "rewards", "rewards", "reward"),
)
STAGES = ("import", "review", "generate", "critique", "edit", "score", "build-pairs", "export")


@dataclass(frozen=True)
class Upgrade:
    """What became of one run directory.

    Attributes:
        rows: table → rows that are there.
        rekeyed: rows of them that got another key.
        again: what → rows that stay where they are, but are not found by their key any more.
    """

    path: str
    before: int
    after: int
    rows: dict[str, int]
    rekeyed: int
    again: dict[str, int]


def upgrade(path: str | Path, *, dry_run: bool = False) -> list[Upgrade]:
    """Bring a run and those nested in it (rounds, evaluations) to the format of this rpo.

    Raises:
        UsageError: no run there, or one of a newer rpo.
        RunLocked: another command works on it.
    """
    store = open_store(path)
    return [_upgraded(each, dry_run) for each in (store, *_nested(store))]


def _nested(store: Store) -> Iterator[Store]:
    for folder in ("train", "eval"):
        for name in store.files.find(folder, f"/{MANIFEST}"):
            yield open_store(store.files.join(name.removesuffix(f"/{MANIFEST}")))


def _upgraded(store: Store, dry_run: bool) -> Upgrade:
    before, again, rekeyed = _format(store.read_manifest()), {}, 0
    with ExitStack() as held:
        if before < FORMAT_VERSION:
            for stage in () if dry_run else STAGES:
                held.enter_context(store.lock(stage))
            manifest = store.read_manifest()
            again = code_unknown(store, manifest)
            rekeyed = sum(_rekeyed(store, part, dry_run) for part in _losers(store, manifest))
            if not dry_run:
                store.update_manifest(lambda now: {**now, "format": FORMAT_VERSION, "rpo": __version__})
    rows = {table: len(store.keys(table)) for table in TABLES}
    kept = {table: count for table, count in rows.items() if count}
    return Upgrade(store.url, before, FORMAT_VERSION, kept, rekeyed, again)


def _format(manifest: Manifest) -> int:
    return int(manifest.get("format", 1))


def check_format(store: Store, manifest: Manifest) -> None:
    """Refuse to write into an older run of which rows would be made again without a word.

    Raises:
        UsageError: tells which.
    """
    if not manifest or _format(manifest) == FORMAT_VERSION:
        return
    again = dict(code_unknown(store, manifest))
    losers = sum(len(keys) for _, keys in _losers(store, manifest))
    again |= {"pictures with noise put on": losers} if losers else {}
    if again:
        listed = ", ".join(f"{count:,} {what}" for what, count in again.items())
        raise UsageError(
            f"{store.url}: made by an earlier rpo, whose keys say less of some rows: {listed}",
            f"rpo upgrade {store.url}: it keeps what can be kept, and says what is made again",
        )


# --- rows that can be kept under another key -------------------------------------------------------------


def _losers(store: Store, manifest: Manifest) -> Iterator[tuple[str, dict[str, str]]]:
    """Name of a part of images → old key → new key of each loser in it whose key lacks its strength."""
    settings = manifest.get("settings", {})
    strengths = settings.get("generate", {}).get("strengths") or ()
    if not strengths:
        return
    seed = settings.get("run", {}).get("seed", 0)
    columns = ["image_id", "prompt_id", "prompt", "index", "seed", "against", "settings"]
    for part in store.parts("images"):
        changed = {}
        for row in store.part_table("images", part, columns).to_pylist():
            new = _loser_key(row, seed, strengths)
            if new is not None and new != row["image_id"]:
                changed[row["image_id"]] = new
        if changed:
            yield part.name, changed


def _loser_key(row: Mapping[str, Any], seed: int, strengths: Any) -> str | None:
    """None for a picture that was made against no winner."""
    if row["against"] is None:
        return None
    strength = strengths[row_seed(row["seed"], "strength") % len(strengths)]
    what = (row["prompt_id"], row["prompt"], row["index"], row["seed"], row["against"], strength)
    return loser_key(ImageTask(*what), seed=seed, settings=row["settings"])


def _rekeyed(store: Store, found: tuple[str, dict[str, str]], dry_run: bool) -> int:
    """Write one part's rows under their new keys, then drop it: a kill between leaves both, and no harm."""
    name, keys = found
    if not dry_run:
        (part,) = [part for part in store.parts("images") if part.name == name]
        rows = [row for row in store.part_rows("images", part) if isinstance(row, Image)]
        new = [row.model_copy(update={"image_id": keys.get(row.image_id, row.image_id)}) for row in rows]
        store.commit("images", new, group=part.group)
        store.files.delete(part.name)
    return len(keys)


# --- rows whose key cannot be told -----------------------------------------------------------------------


def code_unknown(store: Store, manifest: Manifest) -> dict[str, int]:
    """What → rows of format 1 that code of others has made: the row does not say which version of it."""
    found: Counter[str] = Counter()
    generator = manifest.get("settings", {}).get("generate", {}).get("backend", "auto")
    group = manifest.get("groups", {}).get("generate")
    if generator not in ("auto", *registry.generators) and group:
        found[f"images of the generator '{generator}'"] += store.counts("images").get(group, 0)
    for stage, kind, table, entry in NAMED:
        for text in store.columns(table, ["settings"])["settings"].to_pylist():
            settings = json.loads(text)
            settings = json.loads(settings["judged"]) if "judged" in settings else settings
            name = settings.get(entry)
            if name is not None and name not in registry.KINDS[kind] and not _is_function(settings):
                found[f"{table} of {stage} by '{name}'"] += "code" not in settings
    return {what: count for what, count in sorted(found.items()) if count}


def _is_function(settings: Mapping[str, Any]) -> bool:
    """A reward that is a function of the user's: its key holds the hash of its module."""
    return str(settings.get("model", "")).startswith("function:")

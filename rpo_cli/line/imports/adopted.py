"""Sources that an rpo before the ledger has imported: groups of rows, known by a name alone.

They take part as they are. When a source of that name and format is imported, its group becomes a ledger,
which the rows that the source has now then replace chunk by chunk.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from rpo_cli.line.imports.ledger import Ledger, blank
from rpo_cli.line.imports.reading import digest
from rpo_cli.line.imports.rows import KEYED, preference_key
from rpo_cli.line.imports.sources import STAGE, Entries, entries, has_ledger, settings_of_source, sources
from rpo_cli.line.session import Line
from rpo_cli.records import Preference
from rpo_cli.schema import Part
from rpo_cli.store import Store

Keys = dict[str, set[str]]
# what a row says; a judgement by the key that it has today, whichever way round its pictures stand
SAID = ("prompts", "images", "critiques", "judgements")
VOTE = ("preference_id", "prompt_id", "a_id", "b_id", "row", *KEYED)


def adopt(line: Line, key: str, about: dict[str, Any]) -> Entries:
    """Enter the rows of earlier imports of a source into its ledger.

    Returns:
        Their entries in run.json, as they are once that of the source stands there.
    """
    groups = {
        group: said
        for group, said in sources(line).items()
        if not has_ledger(said) and all(said[name] == about[name] for name in ("format", "source"))
    }
    ledger = Ledger.of(line.store, key)
    found: dict[int, Keys] = {}
    for group, said in sorted(groups.items()):
        for row, keys in _rows(line.store, group, said).items():
            for table, named in keys.items():
                found.setdefault(row, defaultdict(set))[table] |= named
    for start in sorted({row // about["chunk"] * about["chunk"] for row in found}):
        if ledger.at(start) is None:
            _enter(ledger, start, start + about["chunk"], found)
    return {group: {**said, "withdrawn": True, "replaced": key} for group, said in groups.items()}


def _enter(ledger: Ledger, start: int, stop: int, found: dict[int, Keys]) -> None:
    inside = {row: keys for row, keys in sorted(found.items()) if start <= row < stop}
    taken = {row: keys for row, keys in inside.items() if keys["images"]}
    tables = ("prompts", "images", "critiques", "preferences")
    digests = tuple(digest(key for table in SAID for key in keys[table]) for keys in taken.values())
    named = {
        table: tuple(sorted({key for keys in inside.values() for key in keys[table]}))
        for table in (*tables, "rejects")
    }
    said = {"upto": stop, "rows": tuple(taken), "digests": digests, **named}
    ledger.put(blank(ledger.source, start).model_copy(update=said))


def _rows(store: Store, group: str, about: dict[str, Any]) -> dict[int, Keys]:
    """Row of the source → table → keys that it gave, as far as the rows of the group tell."""
    found: dict[int, Keys] = defaultdict(lambda: defaultdict(set))
    owner: dict[str, int] = {}
    for row in _light(store, "images", ["image_id", "prompt_id", "index"], group):
        found[row["index"]]["images"].add(row["image_id"])
        found[row["index"]]["prompts"].add(row["prompt_id"])
        owner[row["image_id"]] = row["index"]
    for row in _light(store, "preferences", VOTE, group):
        keys = found[row["row"]]
        keys["preferences"].add(row["preference_id"])
        keys["judgements"].add(preference_key(row))
        keys["images"] |= {row["a_id"], row["b_id"]}
        keys["prompts"].add(row["prompt_id"])
    for row in _light(store, "critiques", ["critique_id", "image_id"], group):
        found[owner.get(row["image_id"], 0)]["critiques"].add(row["critique_id"])
    for row in _light(store, "rejects", ["key_of", "stage", "input_id", "settings"], None):
        number = row["input_id"].removeprefix("row ")
        if row["stage"] == STAGE and row["settings"] == settings_of_source(about) and number.isdecimal():
            found[int(number)]["rejects"].add(row["key_of"])
    return found


def _light(store: Store, table: str, columns: Sequence[str], group: str | None) -> Iterator[dict[str, Any]]:
    yield from store.columns(table, columns, group=group).to_pylist()


def upgrade_imports(store: Store, *, dry_run: bool = False) -> list[str]:
    """Give judgements their key of today, and say which sources are known by name alone.

    No row has to be made again. Where such a source lies is not known before it is imported once more.
    """
    if not dry_run:
        store.prune("preferences", store.counts("preferences"))  # what a part replaces must not come back
    rekeyed = sum(_rekey(store, part, dry_run) for part in store.parts("preferences"))
    notes = [f"{rekeyed:,} imported judgements have another key"] if rekeyed else []
    return notes + [
        f"{said['source']} ({said['format']}) takes part as it is, known by its name alone; "
        f"`rpo import {store.url} SOURCE` once more, and its content is known"
        for _, said in sorted(entries(store).items())
        if not has_ledger(said) and not said.get("withdrawn") and said["format"] != "rpo"
    ]


def _rekey(store: Store, part: Part, dry_run: bool) -> int:
    """Write a part's rows under their keys of today, then drop it: a kill leaves both, to be done again."""
    rows = [row for row in store.part_rows("preferences", part) if isinstance(row, Preference)]
    keys = [preference_key({name: getattr(row, name) for name in KEYED}) for row in rows]
    changed = sum(row.preference_id != key for row, key in zip(rows, keys, strict=True))
    if changed and not dry_run:
        new = [row.model_copy(update={"preference_id": key}) for row, key in zip(rows, keys, strict=True)]
        store.replace("preferences", part, new)
    return changed

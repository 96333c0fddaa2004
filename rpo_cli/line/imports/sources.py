"""The imported rows of a run: run.json names the sources that take part in it, the ledger their rows.

An entry of run.json without a place is a group of rows that all take part: winners that are given to a
round, or what an rpo before the ledger has imported.
"""

from collections import Counter
from typing import Any

from rpo_cli.line.imports.ledger import TABLE, claimed
from rpo_cli.line.session import Line
from rpo_cli.records import canonical_json
from rpo_cli.store import Store

STAGE = "import"
TOLD = ("source", "format", "license", "revision")  # of a source, on cards
Entries = dict[str, dict[str, Any]]


def entries(store: Store) -> Entries:
    """Everything that imports have left in run.json: id → what is known of the source."""
    return dict(store.read_manifest().get("imports", {}))


def sources(line: Line) -> Entries:
    """The sources that take part, by id."""
    return {key: about for key, about in entries(line.store).items() if not about.get("withdrawn")}


def told_sources(line: Line) -> list[dict[str, str]]:
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


def imported(line: Line, table: str) -> set[str]:
    """Keys of the imported rows of a table that take part."""
    manifest = line.store.read_manifest().get("imports", {})
    if not manifest:
        return set()
    parts = [part.name for name in (TABLE, table) for part in line.store.parts(name)]
    state, memory = (manifest, parts), f"imported {table}"
    if line.memory.get(memory, (None,))[0] != state:
        line.memory[memory] = (state, _imported(line, table))
    found: set[str] = line.memory[memory][1]
    return found


def _imported(line: Line, table: str) -> set[str]:
    found = sources(line)
    groups = {key for key, about in found.items() if not has_ledger(about)}
    keys = set(claimed(line.store, found.keys() - groups, table))
    parts = [part for part in line.store.parts(table) if part.group in groups]
    return keys | {key for part in parts for key in line.store.part_keys(table, part)}


def people_said(line: Line) -> dict[tuple[str, str], str]:
    """(sha256 of a picture, prompt_id) → what imported feedback says of it; the first by key of several."""
    keys = imported(line, "critiques")
    columns = ["critique_id", "image_sha256", "prompt_id", "text"]
    rows = line.store.columns("critiques", columns).to_pylist() if keys else []
    rows = sorted(
        (row for row in rows if row["critique_id"] in keys), key=lambda row: str(row["critique_id"])
    )
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
    settings = {said_of(about) for about in found.values() if not has_ledger(about)}
    rows = line.store.columns("rejects", ["key_of", "stage", "reason", "settings"]).to_pylist()
    counts = Counter(
        row["reason"]
        for row in rows
        if row["stage"] == STAGE and (row["key_of"] in keys or row["settings"] in settings)
    )
    return dict(sorted(counts.items()))


def said_of(about: dict[str, Any]) -> str:
    """What stands as the settings in every row of a source."""
    said = {name: about[name] for name in TOLD if name in about and name != "format"}
    return canonical_json({"import": about["format"], **said})

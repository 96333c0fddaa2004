"""show: one row's whole story, from its prompt to its pairs, whatever kind of row it is."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError, disk_errors
from rpo_cli.line.steps import OURS, stages
from rpo_cli.line.work.base import settings_group
from rpo_cli.pictures import HEIF, READ, format_of, sha256
from rpo_cli.records import Edit, Image, Row
from rpo_cli.schema import key_of
from rpo_cli.store import Store, open_store

# table → the word for one of its rows, where no stage makes them
BEFORE = {"prompts": "prompt"}
AFTER = {"rejects": "reject", "pairs": "pair", "verdicts": "verdict"}
FLOOR = "floor"  # purpose of edits that are no part of any story but their own
SHORTEST = 4  # letters of an id
MENTIONED = 5  # rows that an ambiguous id is told to mean
PLAIN = re.compile(r"[0-9A-Za-z_-]{1,64}", re.ASCII)
SUFFIXES = {"JPEG": "jpg", "TIFF": "tif", "HEIF": "heic"}  # of other formats their name
# columns that name other rows, light to read, of tables that no stage makes
LINKS = {
    "pairs": ("pair_id", "prompt_id", "a_id", "b_id", "critique_id"),
    "rejects": ("key_of", "input_id"),
    "verdicts": ("verdict_id", "pair_id"),
}
Light = dict[str, list[dict[str, Any]]]


def kinds() -> dict[str, str]:
    """Table → the word for one of its rows, in the order of a story."""
    return {**BEFORE, **{spec.table: spec.word for spec in stages()}, **AFTER}


def links() -> dict[str, tuple[str, ...]]:
    """Table → its columns that name other rows; key first."""
    return {**{spec.table: spec.links or (key_of(spec.table),) for spec in stages()}, **LINKS}


@dataclass(frozen=True)
class Chapter:
    """One row: its fields without the picture's bytes.

    Attributes:
        scores: of its picture, by reward.
        older: made by settings that are no longer those of the run.
        asked: the row whose id was given.
    """

    kind: str
    id: str
    told: dict[str, Any]
    scores: dict[str, float] = field(default_factory=dict)
    older: bool = False
    asked: bool = False
    picture: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Story:
    path: str
    chapters: list[Chapter]


def story(path: str | Path, key: str) -> Story:
    """The row with this id and those it was made from or that were made from it, prompt first.

    Args:
        key: an id of any table, or a beginning of at least four letters that only one row has.

    Raises:
        UsageError: no such run or row, or several rows with this beginning.
    """
    store = open_store(path)
    table, key = _found(store, key)
    light: Light = {name: store.columns(name, columns).to_pylist() for name, columns in links().items()}
    wanted = _related(table, key, light)
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for light_row in light["rewards"]:
        picture = _source(light_row, "subject_sha256")
        scores.setdefault(picture, {})[light_row["reward"]] = light_row["score"]
    groups = store.read_manifest().get("groups", {})
    seed = store.read_manifest().get("settings", {}).get("run", {}).get("seed", 0)
    chapters = []
    by_table = {spec.table: spec.name for spec in stages() if spec.command == spec.name}
    for name in kinds():
        rows = sorted(store.fetch(name, wanted.get(name, set())), key=_order)
        for row in rows:
            older = name in by_table and _group(row, by_table[name], seed) != groups.get(by_table[name])
            chapter = _chapter(row, name, scores, older=older, asked=(name, row.key) == (table, key))
            if isinstance(row, Edit) and row.purpose == "counter":
                chapter.told["instruction_of"] = _critiques_of(row.instruction, light["critiques"])
            chapters.append(chapter)
    return Story(str(path), chapters)


def _found(store: Store, key: str) -> tuple[str, str]:
    """(table, key) of the one row that is meant; a whole id wins over a beginning."""
    if len(key) < SHORTEST:
        raise UsageError(f"'{key}' is too short for an id", f"give at least {SHORTEST} letters of it")
    found = [(name, known) for name in kinds() for known in store.keys(name) if known.startswith(key)]
    whole = [item for item in found if item[1] == key]
    found = sorted(whole[:1] or found)
    if not found:
        raise UsageError(f"{store.url}: no row has an id that begins with '{key}'", _WHERE)
    if len(found) > 1:
        words = kinds()
        named = ", ".join(f"{words[name]} {known}" for name, known in found[:MENTIONED])
        more = f" and {len(found) - MENTIONED:,} more" if len(found) > MENTIONED else ""
        raise UsageError(f"'{key}' begins the ids of {named}{more}", "give more letters of the id")
    return found[0]


_WHERE = (
    "ids stand in the dataset (image_0_uid), the report and the tables; those of an evaluation's "
    "pictures.jsonl belong to its models: rpo show RUN/eval/NAME/MODEL ID"
)


def _related(table: str, key: str, light: Light) -> dict[str, set[str]]:
    """Table → keys of the rows of the story."""
    mine = next((row for row in light.get(table, []) if row[key_of(table)] == key), {})
    if table == "prompts":
        sources = {_source(row, "sha256") for row in light["images"] if row["prompt_id"] == key}
        return _merged(_around(light, sources), {"prompts": {key}}, _stopped(light, {key}))
    if table == "rejects":
        return _merged(_of(light, mine["input_id"]), {"rejects": {key}})
    if table == "verdicts":
        return _related("pairs", mine["pair_id"], light)
    if table == "rewards":
        return _merged(_of(light, mine["subject_id"]), {"rewards": {key}})
    if table == "images":
        return _around(light, {_source(mine, "sha256")})
    if table == "critiques":
        return _around(light, {_source(mine, "image_sha256")}, critiques={key})
    if table == "edits":
        return _around(light, {_source(mine, "image_sha256")}, edits={key})
    if table in _of_pictures(light):
        return _around(light, {_source(mine, "image_sha256")})
    if table not in LINKS:  # of a plugin's stage that names no picture
        return {table: {key}}
    sides = {mine["a_id"], mine["b_id"]}
    sources = {_source(row, "sha256") for row in light["images"] if row["image_id"] in sides}
    sources |= {_source(row, "image_sha256") for row in light["edits"] if row["edit_id"] in sides}
    return _around(light, sources, edits=sides, pairs={key})


def _of(light: Light, key: str) -> dict[str, set[str]]:
    """The story of a row whose table is not said: what a reject or a score was made from."""
    for table in ("images", "critiques", "edits"):
        if any(row[key_of(table)] == key for row in light[table]):
            return _related(table, key, light)
    return {"prompts": {key}}


def _source(row: Mapping[str, Any], column: str) -> tuple[str, str]:
    """A picture as tables join on it."""
    return row["prompt_id"], row[column]


def _around(
    light: Light,
    sources: set[tuple[str, str]],
    *,
    critiques: set[str] | None = None,
    edits: set[str] | None = None,
    pairs: set[str] | None = None,
) -> dict[str, set[str]]:
    """The story of generated pictures; a set that is given bounds the rows of its table."""
    images = {row["image_id"] for row in light["images"] if _source(row, "sha256") in sources}
    said = {row["critique_id"] for row in light["critiques"] if _source(row, "image_sha256") in sources}
    said = said if critiques is None else said & critiques
    made = {
        row["edit_id"]
        for row in light["edits"]
        if _source(row, "image_sha256") in sources
        and (critiques is None or row["critique_id"] in critiques)
        and (row["purpose"] != FLOOR if edits is None else row["edit_id"] in edits)
    }
    sides = images | made if critiques is None and edits is None else made
    if pairs is None:
        pairs = {row["pair_id"] for row in light["pairs"] if sides & {row["a_id"], row["b_id"]}}
    verdicts = {row["verdict_id"] for row in light["verdicts"] if row["pair_id"] in pairs}
    prompts = {prompt for prompt, _ in sources}
    tables = {"prompts": prompts, "images": images, "critiques": said, "edits": made, "pairs": pairs}
    seen = sources | {_source(row, "sha256") for row in light["edits"] if row["edit_id"] in made}
    for table in _of_pictures(light):
        tables[table] = {row[key_of(table)] for row in light[table] if _source(row, "image_sha256") in seen}
    return _merged(tables, {"verdicts": verdicts}, _stopped(light, images | said | made))


def _of_pictures(light: Light) -> list[str]:
    """Tables of plugins' stages that tell of pictures, by `prompt_id` and `image_sha256`."""
    ours = {spec.table for spec in OURS}
    found = (spec for spec in stages() if spec.table in light and spec.table not in ours)
    return [spec.table for spec in found if "image_sha256" in spec.links]


def _stopped(light: Light, sources: set[str]) -> dict[str, set[str]]:
    """Rejects of what was to be made from these rows."""
    return {"rejects": {row["key_of"] for row in light["rejects"] if row["input_id"] in sources}}


def _merged(*parts: Mapping[str, set[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for part in parts:
        for name, keys in part.items():
            found[name] = found.get(name, set()) | keys
    return found


def _order(row: Row) -> tuple[int, str]:
    number = getattr(row, "index", getattr(row, "attempt", 0))
    return number, row.key


def _group(row: Any, stage: str, seed: int) -> str:
    return settings_group(stage, row.settings, seed)


def _critiques_of(instruction: str, critiques: list[dict[str, Any]]) -> str:
    """One critique that gave an instruction, and how many more did."""
    found = sorted(row["critique_id"] for row in critiques if instruction in row["instructions"])
    if not found:
        return "no critique that is still there"
    return f"critique {found[0]}" + (f" and {len(found) - 1:,} more" if found[1:] else "")


def _chapter(
    row: Row, table: str, scores: Mapping[tuple[str, str], dict[str, float]], *, older: bool, asked: bool
) -> Chapter:
    picture = row.image.bytes if isinstance(row, Image | Edit) else None
    mine = scores.get((row.prompt_id, row.sha256), {}) if isinstance(row, Image | Edit) else {}
    fields = row.model_dump(mode="python", exclude={"image"})
    fields.pop(next(iter(type(row).model_fields)))  # the key is the chapter's own
    return Chapter(kinds()[table], row.key, fields, mine, older, asked, picture)


def extract(found: Story, folder: Path) -> list[Path]:
    """Write the story's pictures into a folder, as they are stored; returns the files.

    Raises:
        StorageError: a file cannot be written.
    """
    files = []
    for chapter in _pictured(found.chapters):
        assert chapter.picture is not None
        # an id is data, and a file name must be none that leads elsewhere
        name = chapter.id if PLAIN.fullmatch(chapter.id) else sha256(chapter.id.encode())[:32]
        format = format_of(chapter.picture)
        suffix = SUFFIXES.get(format, format.lower()) if format in (*READ, HEIF) else "bin"
        file = folder / f"{chapter.kind}-{name}.{suffix}"
        with disk_errors(str(file)):
            folder.mkdir(parents=True, exist_ok=True)
            file.write_bytes(chapter.picture)
        files.append(file)
    return files


def _pictured(chapters: Iterable[Chapter]) -> Iterator[Chapter]:
    return (chapter for chapter in chapters if chapter.picture is not None)

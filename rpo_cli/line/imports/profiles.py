"""Imported pictures that are not taken as they stand in their files, and what is told of them.

In runs of an rpo that did not convert colour profiles, their rows get the columns that an import gives them
today and keep their keys; keys of what was made from them do not say how they are decoded, so that is made
anew.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from typing import Any

from rpo_cli.colours import decoding_of, profile_notes
from rpo_cli.errors import CorruptImage
from rpo_cli.pictures import profile_of
from rpo_cli.records import Image
from rpo_cli.schema import Part
from rpo_cli.store import Store

WHAT = "imported pictures in another colour profile: their critiques, edits and scores"


def decoding_notes(store: Store, keys: Set[str]) -> list[str]:
    """What was done to the pictures of these rows as they were decoded, a line for each kind."""
    columns = ["image_id", "profile", "several"]
    rows = [row for row in store.columns("images", columns).to_pylist() if row["image_id"] in keys]
    profiles = Counter(row["profile"] for row in rows if row["profile"] is not None)
    return profile_notes(profiles, sum(bool(row["several"]) for row in rows))


def profiled(store: Store, manifest: Mapping[str, Any]) -> dict[str, int]:
    """What is made anew → of how many pictures; reads the beginning of every imported picture."""
    found = {row.sha256 for _, rows in _parts(store, manifest) for row in rows.values() if row.decoding}
    return {WHAT: len(found)} if found else {}


def upgrade_profiles(store: Store, manifest: Mapping[str, Any]) -> None:
    """Say in their rows how such pictures are decoded, part by part: a kill does no harm."""
    for part, changed in _parts(store, manifest):
        if changed:
            rows = [changed.get(row.key, row) for row in store.part_rows("images", part)]
            store.replace("images", part, rows)


def _parts(store: Store, manifest: Mapping[str, Any]) -> Iterator[tuple[Part, dict[str, Image]]]:
    """Parts of imported pictures, with those of their rows, by key, that lack what they say today."""
    # winners that a round was given are of a dataset of ours, without profiles
    groups = {key for key, about in manifest.get("imports", {}).items() if about.get("format") != "rpo"}
    for part in store.parts("images") if groups else ():
        if part.group in groups:
            rows = (row for row in store.part_rows("images", part) if isinstance(row, Image))
            today = {row.key: _today(row) for row in rows}
            yield part, {key: row for key, row in today.items() if row is not None}


def _today(row: Image) -> Image | None:
    """The row as an import makes it today; None where that is what it is."""
    try:
        profile = profile_of(row.image.bytes)
    except CorruptImage:
        return None
    if profile == row.profile:
        return None
    return row.model_copy(update={"profile": profile, "decoding": decoding_of(profile)})

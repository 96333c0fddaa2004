"""How much the two pictures of a pair differ: measured where they lie, and kept between builds.

A comparison hangs on the bytes of two pictures alone, so that another threshold, strategy or reward needs
no new look at any picture.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from rpo_cli.keysets import Keys, packed
from rpo_cli.line.dataset.rows import Pictures
from rpo_cli.line.work.edit import Floors
from rpo_cli.protocols import Observer
from rpo_cli.records import EDITED, HOLE, Comparison, template
from rpo_cli.stages.candidates import Candidate
from rpo_cli.stages.differences import Difference, measure
from rpo_cli.store import FEW, Store

VERSION = 1  # of what `measure` computes: raised where it gives another value
TABLE = "comparisons"
CHUNK = 1_000  # comparisons measured between two commits: a kill loses no more


@cache
def _key() -> Any:
    return template("comparison", VERSION, HOLE, HOLE)


def differences_of(
    pairs: Sequence[Candidate],
    pictures: Pictures,
    observer: Observer,
    edits: Iterable[Mapping[str, Any]],
    floors: Floors,
) -> list[Difference | None]:
    """One of each pair, None where a picture cannot be read.

    Args:
        edits: light rows with the guidances that each edit was made with, which have a floor each.
    """
    made = {row["edit_id"]: (row["guidance"], row["image_guidance"]) for row in edits} if floors.by else {}
    return [
        replace(found, floor=floors.by.get(made[pair.b.id]))
        if found is not None and pair.kind in EDITED and pair.b.id in made
        else found
        for pair, found in zip(pairs, compared(pairs, pictures, observer), strict=True)
    ]


def compared(pairs: Sequence[Candidate], pictures: Pictures, observer: Observer) -> list[Difference | None]:
    """What is known of each pair, after measuring what is not.

    A picture that cannot be read is looked at again by every build, since its file may be mended.
    """
    keys = [_key()(pair.a.sha256, pair.b.sha256) for pair in pairs]
    known: dict[bytes, Difference | None] = dict(_known(pictures.store, keys))
    observer.start("build-pairs", len(keys), sum(key in known for key in keys))
    new = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in known}
    rows: list[Comparison] = []
    try:
        for pair, value in _measured(new.values(), pictures):
            key = _key()(pair.a.sha256, pair.b.sha256)
            known[key] = value
            observer.advance(int(value is not None), int(value is None))
            if value is not None:
                rows.append(_row(key, pair, value))
            if len(rows) == CHUNK:
                pictures.store.commit(TABLE, rows)
                rows = []
    finally:
        if rows:
            pictures.store.commit(TABLE, rows)
        observer.finish()
    pictures.store.compact(TABLE, least=FEW)
    return [known[key] for key in keys]


def _known(store: Store, keys: Iterable[bytes]) -> Iterator[tuple[bytes, Difference]]:
    wanted = Keys.distinct(packed(b"".join(keys)))
    for data in store.picked(TABLE, ["comparison_id", "change", "hash_distance"], wanted):
        found = data.to_pydict()
        for key, *value in zip(*found.values(), strict=True):
            yield bytes.fromhex(key), Difference(*value)


def _measured(
    pairs: Iterable[Candidate], pictures: Pictures
) -> Iterator[tuple[Candidate, Difference | None]]:
    """In an order in which their pictures lie near each other."""
    for block, found in pictures.blocks(pairs):
        sides = ((pair.a.sha256, pair.b.sha256) for pair in block)
        yield from zip(block, measure(sides, found), strict=True)


def _row(key: bytes, pair: Candidate, value: Difference) -> Comparison:
    return Comparison(
        comparison_id=key.hex(),
        prompt_id=pair.a.prompt_id,
        a_sha256=pair.a.sha256,
        b_sha256=pair.b.sha256,
        change=value.change,
        hash_distance=value.hash_distance,
    )


def prune_comparisons(store: Store) -> int:
    """Drop what is known of pictures that are gone; returns how many rows. Hold the lock of build-pairs."""
    tables = [store.columns(table, ["sha256"])["sha256"] for table in ("images", "edits")]
    alive = {digest for column in tables for digest in column.to_pylist()}
    dropped = 0
    for part in store.parts(TABLE):
        rows = list(store.part_rows(TABLE, part))
        kept = [
            row for row in rows if isinstance(row, Comparison) and {row.a_sha256, row.b_sha256} <= alive
        ]
        if len(kept) < len(rows):
            store.replace(TABLE, part, kept)
            dropped += len(rows) - len(kept)
    return dropped

"""Contact sheets: a few pairs of a run, from prompt to verdict; RUN/contact-sheet.png or another file."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from heapq import nsmallest
from pathlib import Path

import pyarrow.compute as pc
from PIL.Image import Image as Picture

from rpo_cli.errors import CorruptImage, UsageError, disk_errors
from rpo_cli.exchange.dataset import CARD
from rpo_cli.files import create, draft_of, make_folder, write_whole
from rpo_cli.line.session import Line
from rpo_cli.pictures import decode, encode_png
from rpo_cli.records import Critique, Edit, Image, Pair
from rpo_cli.store import Store
from rpo_cli.visuals.contact_sheet import Scored, SheetRow, choose, draw, fitted

NAME = "contact-sheet.png"
LOOKED_AT = 1_000  # pairs of one kind, verdict and reason that may be on it


def draw_contact_sheet(line: Line) -> Path | None:
    """Draw the sheet and return its path; None when there is no pair to show.

    Pairs with an unreadable picture are left out. One that is younger than the dataset's card stays.
    """
    store = line.store
    path, card = store.path(NAME), store.path("dataset", CARD)
    if path.is_file() and card.is_file() and path.stat().st_mtime_ns >= card.stat().st_mtime_ns:
        return path
    outcomes, judged = _looked_at(store)
    chosen = [pair.pair_id for pair in choose(judged)]
    if not chosen:
        return None
    verdicts = Counter[str]()
    for (verdict, _), count in outcomes.items():
        verdicts[verdict] += count
    prompts = store.columns("pairs", ["prompt_id"])["prompt_id"]
    counts = {
        "prompts": pc.count_distinct(prompts).as_py(),
        "candidate pairs": verdicts.total(),
        "accepted": verdicts["accepted"],
        "of them reversed": outcomes["accepted", "reversed"],
        "dropped": verdicts["dropped"],
    }
    sheet = draw(_shown(store, chosen), title=path.parent.resolve().name, counts=counts)
    store.files.write(NAME, encode_png(sheet))
    return path


def _looked_at(store: Store) -> tuple[Counter[tuple[str, str]], list[Scored]]:
    """Pairs by verdict and reason, and those that the choice is made from: the first ids of each kind."""
    outcomes: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str, str], list[Scored]] = defaultdict(list)
    for batch in store.batches("pairs", Scored._fields):
        for pair in map(
            Scored._make, zip(*(batch[name].to_pylist() for name in Scored._fields), strict=True)
        ):
            outcomes[pair.verdict, pair.reason] += 1
            if pair.reason != "corrupt_image":
                found[pair.pair_kind, pair.verdict, pair.reason].append(pair)
        found = defaultdict(list, {name: nsmallest(LOOKED_AT, pairs) for name, pairs in found.items()})
    return outcomes, [pair for pairs in found.values() for pair in pairs]


def refuse_unwritable(path: Path) -> None:
    """See that a sheet can be written, before anything is read for it; a file that is there is kept so far.

    Raises:
        UsageError: the name is a folder's, or not that of a PNG.
        StorageError: no file can be made beside it.
    """
    if path.is_dir():
        raise UsageError(f"{path}: is a directory", "name a PNG file, for example pairs.png")
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path}: a sheet is a PNG file", f"for example {path.name}.png")
    with disk_errors(str(path)):
        make_folder(path.parent)
        draft = draft_of(path)
        create(draft).close()
        draft.unlink()


def draw_pairs(
    store: Store, chosen: Sequence[str], path: Path, *, title: str, counts: Mapping[str, int], picked: str
) -> int:
    """Draw these pairs, in that order; returns how many, since those without both pictures are left out.

    Args:
        picked: how they were chosen, in a sentence.

    Raises:
        StorageError: the file cannot be written; no file is written without a pair on it.
    """
    rows = _shown(store, chosen)
    if rows:
        with disk_errors(str(path)):
            write_whole(path, encode_png(draw(rows, title=title, counts=counts, picked=picked)))
    return len(rows)


def _shown(store: Store, chosen: Sequence[str]) -> list[SheetRow]:
    """The chosen pairs with two readable pictures, in that order, and what was said of them."""
    pairs = {row.pair_id: row for row in store.fetch("pairs", chosen) if isinstance(row, Pair)}
    pictures = dict(_pictures(store, {side for pair in pairs.values() for side in (pair.a_id, pair.b_id)}))
    asked = {pair.critique_id for pair in pairs.values() if pair.critique_id}
    critiques = {row.key: row for row in store.fetch("critiques", asked) if isinstance(row, Critique)}
    return [
        SheetRow(
            pair=pair,
            a=pictures[pair.a_id],
            b=pictures[pair.b_id],
            critique=critique.text if (critique := critiques.get(pair.critique_id or "")) else "",
            flaws=tuple(f"{flaw.aspect}: {flaw.detail}" for flaw in critique.flaws) if critique else (),
        )
        for pair in (pairs[key] for key in chosen if key in pairs)
        if {pair.a_id, pair.b_id} <= pictures.keys()
    ]


def _pictures(store: Store, keys: set[str]) -> Iterator[tuple[str, Picture]]:
    """Readable pictures by id, small enough to hold those of many pairs."""
    for table in ("images", "edits"):
        for row in store.fetch(table, keys):
            assert isinstance(row, Image | Edit)
            try:
                yield row.key, fitted(decode(row.image.bytes, row.key))
            except CorruptImage:  # its pair is left out, which the caller tells
                continue

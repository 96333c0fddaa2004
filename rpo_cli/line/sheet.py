"""The contact sheet of a run: a few of its pairs, from prompt to verdict, in RUN/contact-sheet.png."""

from collections import Counter
from pathlib import Path

from rpo_cli.exchange.dataset import CARD
from rpo_cli.line.context import Line
from rpo_cli.pictures import decode, encode_png
from rpo_cli.records import Critique, Edit, Image, Pair
from rpo_cli.report.contact_sheet import Judged, Shown, choose, draw
from rpo_cli.store import Store

NAME = "contact-sheet.png"


def draw_contact_sheet(line: Line) -> Path | None:
    """Draw the sheet and return its path; None when there is no pair to show.

    Pairs with an unreadable picture are left out. One that is younger than the dataset's card stays.
    """
    store = line.store
    path, card = store.path(NAME), store.path("dataset", CARD)
    if path.is_file() and card.is_file() and path.stat().st_mtime_ns >= card.stat().st_mtime_ns:
        return path
    rows = store.columns("pairs", list(Judged._fields)).to_pylist()
    judged = [Judged(**row) for row in rows if row["reason"] != "corrupt_image"]
    chosen = [pair.pair_id for pair in choose(judged)]
    if not chosen:
        return None
    outcomes = Counter(row["verdict"] for row in rows)
    counts = {
        "prompts": len({row["prompt"] for row in rows}),
        "candidate pairs": len(rows),
        "accepted": outcomes["accepted"],
        "of them reversed": sum(
            row["reason"] == "reversed" for row in rows if row["verdict"] == "accepted"
        ),
        "dropped": outcomes["dropped"],
    }
    sheet = draw(_shown(store, chosen), title=path.parent.resolve().name, counts=counts)
    store.files.write(NAME, encode_png(sheet))
    return path


def _shown(store: Store, chosen: list[str]) -> list[Shown]:
    """The chosen pairs, in that order, with their pictures and critiques."""
    pairs = {row.pair_id: row for row in store.fetch("pairs", chosen) if isinstance(row, Pair)}
    sides = {side for pair in pairs.values() for side in (pair.a_id, pair.b_id)}
    pictures = {
        row.key: decode(row.image.bytes, row.key)
        for table in ("images", "edits")
        for row in store.fetch(table, sides)
        if isinstance(row, Image | Edit)
    }
    asked = {pair.critique_id for pair in pairs.values() if pair.critique_id}
    critiques = {row.key: row for row in store.fetch("critiques", asked) if isinstance(row, Critique)}
    return [
        Shown(
            pair=pairs[key],
            a=pictures[pairs[key].a_id],
            b=pictures[pairs[key].b_id],
            critique=critique.text if (critique := critiques.get(pairs[key].critique_id or "")) else "",
            flaws=tuple(f"{flaw.aspect}: {flaw.detail}" for flaw in critique.flaws) if critique else (),
        )
        for key in chosen
    ]

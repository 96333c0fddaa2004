"""The contact sheet of a run: a few pairs from prompt to verdict as one PNG."""

from pathlib import Path

from rpo_cli.line.context import Line
from rpo_cli.pictures import decode, encode_png
from rpo_cli.records import Critique, Edit, Image, Pair
from rpo_cli.report.contact_sheet import Shown, choose, draw

FILE = "contact-sheet.png"


def draw_contact_sheet(line: Line) -> Path | None:
    """Write RUN/contact-sheet.png from the run's pairs; None when there is no pair.

    The same pairs make the same bytes; nothing is drawn when the file is newer than the pairs.
    """
    store = line.store
    path = store.path(FILE)
    parts = [store.path(part.name) for part in store.parts("pairs")]
    if path.is_file() and parts and path.stat().st_mtime_ns >= max(p.stat().st_mtime_ns for p in parts):
        return path
    columns = ("pair_id", "pair_kind", "verdict", "reason", "prompt")
    light = store.columns("pairs", columns).to_pylist()
    if not light:
        return None
    pairs = [
        row for row in store.fetch("pairs", {item["pair_id"] for item in light}) if isinstance(row, Pair)
    ]
    chosen = choose(pairs)
    counts = {table: len(store.keys(table)) for table in ("images", "critiques", "edits")}
    counts["candidate pairs"] = len(pairs)
    counts["accepted"] = sum(pair.verdict == "accepted" for pair in pairs)
    sheet = draw(_shown(line, chosen), title=Path(store.url).resolve().name, counts=counts)
    store.files.write(FILE, encode_png(sheet))
    return path


def _shown(line: Line, pairs: list[Pair]) -> list[Shown]:
    ids = {pair.a_id for pair in pairs} | {pair.b_id for pair in pairs}
    pictures = {
        row.key: decode(row.image.bytes)
        for table in ("images", "edits")
        for row in line.store.fetch(table, ids)
        if isinstance(row, Image | Edit)
    }
    asked = {pair.critique_id for pair in pairs if pair.critique_id}
    critiques = {row.key: row for row in line.store.fetch("critiques", asked) if isinstance(row, Critique)}
    shown = []
    for pair in pairs:
        critique = critiques.get(pair.critique_id or "")
        flaws = tuple(f"{flaw.aspect}: {flaw.detail}" for flaw in critique.flaws) if critique else ()
        text = critique.text if critique else ""
        shown.append(Shown(pair, pictures[pair.a_id], pictures[pair.b_id], text, flaws))
    return shown

"""report: everything a run has made, as one static folder of pages and pictures.

Figures run over all rows, part by part; pictures over a bounded choice. Equal runs give equal bytes, but
for the pace of their stages.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rpo_cli.errors import CorruptImage, UsageError
from rpo_cli.line.dataset.pair_filter import PairFilter, Sift
from rpo_cli.line.dataset.rows import PictureShelf
from rpo_cli.line.imports.sources import import_groups, imported, rejects_of
from rpo_cli.line.rates import rates
from rpo_cli.line.report.folder import INDEX, drafted, refuse_foreign, write
from rpo_cli.line.report.sections import (
    evaluation_rows,
    evaluations,
    provenance,
    review_tables,
    training_rows,
    trainings,
)
from rpo_cli.line.session import Line, open_line
from rpo_cli.line.steps import stages as specs
from rpo_cli.line.work.base import settings_group
from rpo_cli.line.work.edit import floor_edits, taking_part
from rpo_cli.pictures import decode, encode_png, sha256
from rpo_cli.protocols import Observer
from rpo_cli.records import EDITED, Edit, Image, Pair
from rpo_cli.schema import key_of
from rpo_cli.store import Store
from rpo_cli.visuals.contact_sheet import changed, fitted
from rpo_cli.visuals.pages import Card, Report, Side, StageRow, pages
from rpo_cli.visuals.tally import COLUMNS, Sampler, Selection, Tally, aspect_scores, duplicates, named

FOLDER = "report"
SHOWN = 200
SMALL = 128  # pictures below this many pixels are shown with sharp pixels
CRITIQUE = ["prompt_id", "image_sha256", "text", "flaws", "scores"]
Critiques = Mapping[tuple[str, str], Mapping[str, Any]]
Scored = Mapping[str, Counter[float]]  # aspect → score → critiques


@dataclass(frozen=True)
class ReportWritten:
    """The report's first page, and how many pairs it counts and shows.

    Attributes:
        path: None where no pair of the `total` of the run matches the filter: nothing was written.
    """

    path: str | None
    pairs: int
    total: int
    shown: int = 0
    pages: int = 0
    pictures: int = 0


def write_report(
    path: str | Path,
    out: str | Path | None = None,
    *,
    asked: PairFilter | None = None,
    shown: int = SHOWN,
    price_per_hour: float | None = None,
    observer: Observer | None = None,
) -> ReportWritten:
    """Write the report of a run.

    Args:
        out: the folder to write; RUN/report when None. What an earlier report left there is replaced.
        asked: the pairs that are counted and shown; None: all.
        shown: pairs that are shown with pictures, at most.
        price_per_hour: of the machine that made the rows, in any currency; None: no price is told.

    Raises:
        UsageError: no run, no pairs yet, a filter's reward or gate that is none, or `out` holds files that
            are not a report's.
    """
    line = open_line(path, observer=observer, create=False, uses=())
    store = line.store
    folder = store.path(FOLDER) if out is None else Path(out)
    refuse_foreign(folder)
    sift = Sift(store, asked or PairFilter())
    tally, sampler = _counted(sift, shown)
    if not sift.total:
        raise UsageError(f"{path}: no pairs to report yet", f"rpo build-pairs {path}")
    if not tally.pairs:
        return ReportWritten(None, 0, sift.total)
    chosen = sampler.chosen()
    with PictureShelf() as shelf, drafted(folder) as draft:
        maker, tuned = _Maker(draft, shelf, line.observer), trainings(store)
        cards, aspects, scores = _cards(line, maker, chosen)
        report = Report(
            title=store.url.rstrip("/").rpartition("/")[2] if "://" in store.url else _name(path),
            prompts=store.read_manifest().get("prompts", {}).get("count", 0)
            + len(imported(line, "prompts")),
            stages=[*_stages(line), *training_rows(store, tuned), *evaluation_rows(store)],
            tally=tally,
            aspects=aspects,
            cards=cards,
            trainings=tuned,
            evaluations=evaluations(store, maker.put),
            reviews=review_tables(store),
            duplicates=duplicates(tally, *_pictures(line)),
            aspect_scores=aspect_scores(scores),
            provenance=provenance(line),
            min_margin=line.settings.pairs.min_margin,
            price_per_hour=price_per_hour,
            selection=Selection(asked.words, tally.pairs, sift.total) if asked else None,
        )
        written = [write(draft, name, text.encode()) for name, text in pages(report)]
    count = sum(len(found) for found in cards.values())
    index = str(folder / INDEX)
    return ReportWritten(index, tally.pairs, sift.total, count, len(written), len(maker.written))


def _name(path: str | Path) -> str:
    return Path(path).resolve().name


# --- figures over all rows -----------------------------------------------------------------------------


def _counted(sift: Sift, shown: int) -> tuple[Tally, Sampler]:
    tally, sampler = Tally(), Sampler(shown)
    for rows in sift.rows(COLUMNS):
        for row in rows:
            tally.add(row)
        sampler.add(rows)
    return tally, sampler


def _stages(line: Line) -> list[StageRow]:
    """Rows and rejects by the settings that each stage last ran with, as run.json names their groups.

    Not by what today's models would want: a report tells what the run has made, also where they are gone.
    """
    store = line.store
    groups: dict[str, str] = store.read_manifest().get("groups", {})
    rejects: dict[str, Counter[str]] = {}
    for row in store.columns("rejects", ["stage", "reason", "settings"]).to_pylist():
        kind = row["stage"].partition(" ")[0]
        seed = 0 if kind == "score" else line.settings.run.seed
        if settings_group(kind, row["settings"], seed) == groups.get(row["stage"]):
            rejects.setdefault(row["stage"], Counter())[row["reason"]] += 1
    stages, foreign, paces = _imported(line), import_groups(line), rates(store)
    for stage, table in ((spec.name, spec.table) for spec in specs()):
        counts = {group: n for group, n in taking_part(store, table).items() if group not in foreign}
        mine = {name: group for name, group in groups.items() if name.partition(" ")[0] == stage}
        stale = sum(counts.values()) - sum(counts.get(group, 0) for group in mine.values())
        for number, (name, group) in enumerate(sorted(mine.items())):
            # rows of older settings belong to the table: said once where it has several groups
            older = stale if number == 0 else 0
            stages.append(
                StageRow(name, counts.get(group, 0), older, rejects.get(name, {}), paces.get(name))
            )
        if not mine and counts:  # merged from elsewhere: nothing was made here
            stages.append(StageRow(stage, sum(counts.values()), 0, {}))
    return stages


def _imported(line: Line) -> list[StageRow]:
    images = len(imported(line, "images"))
    return [StageRow("import", images, 0, rejects_of(line))] if import_groups(line) else []


# --- the pairs that are shown --------------------------------------------------------------------------


LABELS = {"edit": ("Original", "Edit"), "counter": ("Original", "Counter-edit")}


class _Maker:
    """Makes the pictures of a report, each once, named by its content."""

    def __init__(self, folder: Path, shelf: PictureShelf, observer: Observer) -> None:
        self.folder, self.shelf, self.observer = folder, shelf, observer
        self.written: set[str] = set()

    def card(self, pair: Pair, critiques: Critiques) -> Card:
        edited = pair.pair_kind in EDITED
        labels = LABELS.get(pair.pair_kind, ("Picture A", "Picture B"))
        a, b = self._picture(pair.a_sha256), self._picture(pair.b_sha256)
        sides = [
            self._side(label, picture, pair.winner == winner, critiques.get((pair.prompt_id, content)))
            for label, picture, winner, content in zip(
                labels, (a, b), "ab", (pair.a_sha256, pair.b_sha256), strict=True
            )
        ]
        outline = region = None
        if edited and a is not None and b is not None:
            drawn, region = changed(a, b)
            outline = self.put(drawn)
        return Card(pair, (sides[0], sides[1]), outline, region)

    def _picture(self, content: str) -> Any:
        try:
            return fitted(decode(self.shelf[content]))
        except (CorruptImage, KeyError):  # the page says so; the pair was dropped for it
            return None

    def _side(self, label: str, picture: Any, won: bool, critique: Mapping[str, Any] | None) -> Side:
        return Side(
            label=label,
            file=None if picture is None else self.put(picture),
            won=won,
            small=picture is not None and max(picture.size) < SMALL,
            critique=critique["text"] if critique else "",
            flaws=tuple(f"{flaw['aspect']}: {flaw['detail']}" for flaw in critique["flaws"])
            if critique
            else (),
            scores=tuple(f"{name} {score:g}" for name, score in named(critique["scores"] or ()))
            if critique
            else (),
        )

    def put(self, picture: Any) -> str:
        """Write a picture, once, and return its file's name."""
        data = encode_png(picture)
        name = f"pictures/{sha256(data)[:32]}.png"
        if name not in self.written:
            self.written.add(write(self.folder, name, data))
        return name


def _cards(
    line: Line, maker: _Maker, chosen: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[Card]], dict[str, int], Scored]:
    """Section → cards in order; flaws and scores by aspect, over all critiques."""
    store = line.store
    wanted = {key for keys in chosen.values() for key in keys}
    pairs = {row.key: row for row in store.fetch("pairs", wanted) if isinstance(row, Pair)}
    sides = {side for pair in pairs.values() for side in (pair.a_id, pair.b_id)}
    for table in ("images", "edits"):
        maker.shelf.add(_encoded(store, table, sides))
    shown = {(pair.prompt_id, pair.a_sha256) for pair in pairs.values()}
    shown |= {(pair.prompt_id, pair.b_sha256) for pair in pairs.values()}
    critiques, aspects, scores = _critiques(store, shown)
    line.observer.start("report", len(wanted), 0)
    cards: dict[str, list[Card]] = {}
    for section, keys in chosen.items():
        cards[section] = []
        for key in keys:
            if key in pairs:  # else gone since it was counted: another rpo has built anew
                cards[section].append(maker.card(pairs[key], critiques))
            line.observer.advance(1, 0)
    line.observer.finish()
    return cards, aspects, scores


def _pictures(line: Line) -> tuple[int, int]:
    """How many pictures the run has, and how many different ones; those of older settings do not count."""
    groups: dict[str, str] = line.store.read_manifest().get("groups", {})
    found: list[str] = []
    foreign, given = import_groups(line), imported(line, "images")
    for stage, table in (("generate", "images"), ("edit", "edits")):
        live = {groups[stage], *foreign} if stage in groups else line.store.counts(table)
        for group in sorted(live):
            rows = line.store.columns(table, [key_of(table), "sha256"], group=group)
            keys, hashes = (column.to_pylist() for column in rows.columns)
            apart = floor_edits(line.store, group) if table == "edits" else set()
            both = (item for item in zip(keys, hashes, strict=True) if item[0] not in apart)
            found += [sha for key, sha in both if group not in foreign or key in given]
    return len(found), len(set(found))


def _encoded(store: Store, table: str, keys: set[str]) -> Iterator[tuple[str, bytes]]:
    for row in store.fetch(table, keys):
        assert isinstance(row, Image | Edit)
        yield row.sha256, row.image.bytes


def _critiques(store: Store, shown: set[tuple[str, str]]) -> tuple[Critiques, dict[str, int], Scored]:
    """Critiques of the shown pictures by (prompt_id, sha256); flaws and scores by aspect over all of them.

    Rows of older settings do not count: the manifest names the group that does.
    """
    group = store.read_manifest().get("groups", {}).get("critique")
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    aspects: Counter[str] = Counter()
    scores: dict[str, Counter[float]] = defaultdict(Counter)
    for part in store.scan("critiques", CRITIQUE, group=group):
        for batch in part.to_batches(max_chunksize=2048):
            for row in batch.to_pylist():
                aspects.update(flaw["aspect"] for flaw in row["flaws"])
                for aspect, score in named(row["scores"] or ()):
                    scores[aspect][score] += 1
                key = (row["prompt_id"], row["image_sha256"])
                if key in shown:
                    found.setdefault(key, row)
    return found, dict(aspects), scores

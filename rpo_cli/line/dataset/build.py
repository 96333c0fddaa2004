"""How much the two pictures of each pair differ, beside what the editor changes by itself."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from rpo_cli.config import PairSettings
from rpo_cli.exchange.card import Facts, built, render
from rpo_cli.exchange.dataset import CARD, SplitFiles, commit, rewards_of, schema, sweep, write_splits
from rpo_cli.files import disk_errors
from rpo_cli.line.dataset.rows import Export, Live, PictureShelf, Sides, light_rows, tell
from rpo_cli.line.work.edit import Floors, measured
from rpo_cli.protocols import Observer
from rpo_cli.records import EDITED, KEY_VERSION, Edit, Image, Pair, canonical_json
from rpo_cli.stages.candidates import Candidate
from rpo_cli.stages.differences import Difference, measure
from rpo_cli.stages.margins import Scale
from rpo_cli.stages.pairs import COLUMNS, candidates
from rpo_cli.stages.verdicts import VERDICT_COLUMNS, Said, consensus, decide, opinion_on
from rpo_cli.store import Store

CHUNK = 64


def differences_of(
    pairs: Sequence[Candidate],
    shelf: PictureShelf,
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
        for pair, found in zip(pairs, _measured(pairs, shelf, observer), strict=True)
    ]


def _measured(
    pairs: Sequence[Candidate], shelf: PictureShelf, observer: Observer
) -> list[Difference | None]:
    observer.start("build-pairs", len(pairs), 0)
    values = measure(((pair.a.sha256, pair.b.sha256) for pair in pairs), shelf)
    measured: list[Difference | None] = []
    while chunk := list(islice(values, CHUNK)):
        measured += chunk
        observer.advance(len(chunk), chunk.count(None))
    observer.finish()
    return measured


COUNTED = ("images", "critiques", "edits", "rewards", "preferences", "verdicts")  # of the card, in order
ROWS_PER_PART = 10_000


@dataclass(frozen=True)
class PairsReport:
    """What came of the candidates; `accepted` counts `reversed` in. `fresh`: something was written.

    `floors`: what the editor changes when asked for nothing, one of each pair of guidances, ascending.
    """

    candidates: int
    accepted: int
    reversed: int
    dropped: dict[str, int]
    train: int
    validation: int
    path: str
    fresh: bool = True
    floors: tuple[float, ...] = ()


def build_dataset(
    store: Store,
    settings: PairSettings,
    *,
    live: Live,
    models: Mapping[str, str],
    notes: Sequence[str],
    observer: Observer,
    license: str = "unknown",
    imports: Sequence[Mapping[str, str]] = (),
    floor: Set[str] = frozenset(),
    sides: Sides | None = None,
) -> PairsReport:
    """Candidate pairs, gates, verdicts, pairs/ and dataset/.

    Args:
        live: table (images, critiques, edits, rewards; preferences and verdicts where there are any) →
            keys of the rows that current settings want.
        models: role ("generator", "critic", "editor", "reward NAME") → name and identity, for the card.
        notes: what the preset has to say about its models, for the card's known limits.
        license: a license of the hub's list, for the card.
        imports: source, format and license of each source of imported rows, for the card.
        floor: keys of the edits under an empty instruction that current settings want.
        sides: columns of plugins' stages that the dataset has for both pictures; their tables are live.

    Raises:
        UsageError: `select_by` names a reward that has scored nothing.
    """
    folder = store.path("dataset")
    around = _around(store, live, **_card_says(models, notes, license, imports))
    build = _fingerprint(store, settings, live, around, floor)
    group = build[:8]
    files = _present(folder, build)
    if files is None:
        _build(store, settings, live, around, build, floor, sides or {}, observer)
    else:
        sweep(folder, files)
    store.prune("pairs", {group})
    rows = store.columns("pairs", ["verdict", "reason", "split", "floor"], group=group).to_pylist()
    return _report(rows, folder, fresh=files is None)


def is_built(
    store: Store,
    settings: PairSettings,
    *,
    live: Live,
    models: Mapping[str, str],
    notes: Sequence[str],
    license: str = "unknown",
    imports: Sequence[Mapping[str, str]] = (),
    floor: Set[str] = frozenset(),
    sides: Sides | None = None,
) -> bool:
    """Whether `build_dataset` with these arguments would write nothing; reads key columns only."""
    around = _around(store, live, **_card_says(models, notes, license, imports))
    return _present(store.path("dataset"), _fingerprint(store, settings, live, around, floor)) is not None


def _card_says(
    models: Mapping[str, str], notes: Sequence[str], license: str, imports: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    more = {"imports": [dict(item) for item in imports]} if imports else {}
    return {"models": models, "notes": tuple(notes), "license": license, **more}


def _build(
    store: Store,
    settings: PairSettings,
    live: Live,
    around: Mapping[str, Any],
    build: str,
    floor: Set[str],
    sides: Sides,
    observer: Observer,
) -> None:
    tables = {
        name: list(light_rows(store, name, live[name], columns).values())
        for name, columns in COLUMNS.items()
        if name in live
    }
    found = candidates(tables, settings)
    rewards = sorted(found.scales)
    folder = store.path("dataset")
    with PictureShelf() as shelf, disk_errors(str(folder)):
        _fill(shelf, store, found.pairs)
        floors = measured(store, floor)
        differences = differences_of(found.pairs, shelf, observer, tables["edits"], floors)
        pairs = decide(found.pairs, differences, settings, _people(store, live, found.pairs))
        _commit_pairs(store, pairs, build[:8])
        accepted = [pair for pair in pairs if pair.verdict == "accepted"]
        export = Export(shelf, accepted, tell(store, live, accepted, sides), around["models"])
        scored = sorted({*rewards, *rewards_of(accepted)})
        shares = any(pair.share not in (None, 0.0, 1.0) for pair in accepted)
        columns = schema(scored, shares=shares, sides=[name for names in sides.values() for name in names])
        splits = write_splits(folder, accepted, export.row, columns)
        card = {**around, "floors": sorted(set(floors.by.values()))}
        facts = _facts(
            build, pairs, splits, columns, found.scales, _settings_in_force(settings, live), card
        )
        commit(folder, render(facts), splits)


def _report(rows: Sequence[Mapping[str, Any]], folder: Path, *, fresh: bool) -> PairsReport:
    accepted = [row for row in rows if row["verdict"] == "accepted"]
    splits = Counter(row["split"] for row in accepted)
    return PairsReport(
        candidates=len(rows),
        accepted=len(accepted),
        reversed=sum(row["reason"] == "reversed" for row in accepted),
        dropped=dict(sorted(Counter(row["reason"] for row in rows if row["verdict"] == "dropped").items())),
        train=splits["train"],
        validation=splits["validation"],
        path=str(folder),
        fresh=fresh,
        floors=tuple(sorted({row["floor"] for row in rows} - {None})),
    )


# --- what is there -------------------------------------------------------------------------------------


def _around(store: Store, live: Live, **said: Any) -> dict[str, Any]:
    """What the card says beside the pairs: counts, rejects, sources and what the caller told."""
    wanted: set[str] = set().union(*live.values())
    rejects: dict[str, Counter[str]] = {}
    for row in store.columns("rejects", ["key_of", "stage", "reason"]).to_pylist():
        if row["key_of"] in wanted:
            rejects.setdefault(row["stage"], Counter())[row["reason"]] += 1
    images = light_rows(store, "images", live["images"], ["prompt_id"])
    prompts = {row["prompt_id"] for row in images.values()}
    sources = {
        row["prompt_id"]: row["source"]
        for row in store.columns("prompts", ["prompt_id", "source"]).to_pylist()
        if row["prompt_id"] in prompts
    }
    counts = {table: len(store.keys(table) & live[table]) for table in COUNTED if table in live}
    counts |= {table: len(store.keys(table) & live[table]) for table in live if table not in counts}
    return {
        "counts": {"prompts": len(prompts), **counts},
        "rejects": {stage: dict(sorted(found.items())) for stage, found in sorted(rejects.items())},
        "sources": dict(sorted(Counter(sources.values()).items())),
        **said,
    }


def _fingerprint(
    store: Store, settings: PairSettings, live: Live, around: Mapping[str, Any], floor: Set[str]
) -> str:
    """Of all that the build depends on; a row's key stands for the row, but for how it is decoded."""
    decoded = light_rows(store, "images", live["images"], ["decoding"]).values()
    converted = sorted(f"{row['image_id']} {row['decoding']}" for row in decoded if row["decoding"])
    tables: dict[str, Set[str]] = {table: store.keys(table) & live[table] for table in sorted(live)}
    if there := floor & store.keys("edits"):
        tables["floor"] = there  # without any it is the build of a run that has none
    keys = {
        name: hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()
        for name, found in tables.items()
    }
    parts = [KEY_VERSION, _settings_in_force(settings, live), keys, around]
    said = canonical_json([*parts, *([converted] if converted else [])])
    return hashlib.sha256(said.encode()).hexdigest()


def _settings_in_force(settings: PairSettings, live: Live) -> dict[str, Any]:
    """The settings that have a say: labels of imported pairs and verdicts only where there are some."""
    silent = {"labels": "preferences", "use_verdicts": "verdicts"}
    exclude = {name for name, table in silent.items() if table not in live}
    # added later: a build with their defaults is the same build as before
    later = ("edits", "calibration", "selection", "reward_weights")
    fields = PairSettings.model_fields
    exclude |= {name for name in later if getattr(settings, name) == fields[name].default}
    shares = {"shares": 1} if "preferences" in live else {}  # judgements are told as shares since then
    return settings.model_dump(mode="json", exclude=exclude) | shares


def _present(folder: Path, build: str) -> set[str] | None:
    """The data files of this very build, when its card and all of them are there."""
    if not (folder / CARD).is_file():
        return None
    found, files = built((folder / CARD).read_text(encoding="utf-8"))
    whole = found == build and all((folder / name).is_file() for name in files)
    return set(files) if whole else None


# --- pairs ---------------------------------------------------------------------------------------------


def _people(store: Store, live: Live, pairs: Iterable[Candidate]) -> dict[str, Said]:
    """pair_id → what reviewers say of it."""
    if "verdicts" not in live:
        return {}
    rows = light_rows(store, "verdicts", live["verdicts"], VERDICT_COLUMNS).values()
    opinions = consensus(rows)
    found = {
        pair.pair_id: opinion_on(opinions, pair.a.prompt_id, pair.a.sha256, pair.b.sha256) for pair in pairs
    }
    return {key: said for key, said in found.items() if said is not None}


def _fill(shelf: PictureShelf, store: Store, pairs: Iterable[Candidate]) -> None:
    wanted: dict[str, set[str]] = {"images": set(), "edits": set()}
    for pair in pairs:
        wanted["images"].add(pair.a.id)
        wanted["edits" if pair.kind in EDITED else "images"].add(pair.b.id)
    for table, keys in wanted.items():
        shelf.add(_pictures(store, table, keys))


def _pictures(store: Store, table: str, keys: Set[str]) -> Iterator[tuple[str, bytes]]:
    for row in store.fetch(table, keys):
        assert isinstance(row, Image | Edit)
        yield row.sha256, row.image.bytes


def _commit_pairs(store: Store, pairs: Sequence[Pair], group: str) -> None:
    """A build's pairs are a group of their own: the rows of a verdict never mix with another build's."""
    for start in range(0, len(pairs), ROWS_PER_PART):
        store.commit("pairs", pairs[start : start + ROWS_PER_PART], group=group)


# --- card ----------------------------------------------------------------------------------------------


def _facts(
    build: str,
    pairs: Sequence[Pair],
    splits: Sequence[SplitFiles],
    columns: pa.Schema,
    scales: Mapping[str, Scale],
    settings: Mapping[str, Any],
    around: Mapping[str, Any],
) -> Facts:
    return Facts(
        build=build,
        pairs=pairs,
        splits=splits,
        columns=columns,
        scales={name: (scales[name].sd, scales[name].basis) for name in sorted(scales)},
        settings=settings,
        **around,
    )

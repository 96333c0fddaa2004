"""Pairs and the dataset from the tables of a run: candidates, verdicts, files and card."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rpo_cli import keysets
from rpo_cli.config import PairSettings
from rpo_cli.exchange.card import Facts, built, render
from rpo_cli.exchange.dataset import CARD, SplitFiles, commit, rewards_of, schema, sweep, write_splits
from rpo_cli.files import disk_errors
from rpo_cli.keysets import Keys, joined
from rpo_cli.line.dataset.comparisons import differences_of
from rpo_cli.line.dataset.rows import Export, Live, Pictures, Sides, block_digits, light_rows, tell
from rpo_cli.line.work.edit import measured
from rpo_cli.protocols import Observer
from rpo_cli.records import KEY_VERSION, Pair, canonical_json
from rpo_cli.stages.candidates import Candidate
from rpo_cli.stages.margins import Scale
from rpo_cli.stages.pairs import COLUMNS, candidates
from rpo_cli.stages.verdicts import VERDICT_COLUMNS, Said, consensus, decide, opinion_on
from rpo_cli.store import Store

COUNTED = ("images", "critiques", "edits", "rewards", "preferences", "verdicts")  # of the card, in order
ROWS_PER_PART = 10_000
Alive = Mapping[str, Keys]


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
    alive = {table: Keys.of(keys) for table, keys in live.items()}
    around = _around(store, alive, **_card_says(models, notes, license, imports))
    build = _fingerprint(store, settings, alive, around, floor)
    group = build[:8]
    files = _present(folder, build)
    if files is None:
        _build(store, settings, alive, around, build, floor, sides or {}, observer)
    else:
        sweep(folder, files)
    store.prune("pairs", {group})
    return _report(_outcomes(store, group), folder, fresh=files is None)


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
    alive = {table: Keys.of(keys) for table, keys in live.items()}
    around = _around(store, alive, **_card_says(models, notes, license, imports))
    return _present(store.path("dataset"), _fingerprint(store, settings, alive, around, floor)) is not None


def _card_says(
    models: Mapping[str, str], notes: Sequence[str], license: str, imports: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    more = {"imports": [dict(item) for item in imports]} if imports else {}
    return {"models": models, "notes": tuple(notes), "license": license, **more}


def _build(
    store: Store,
    settings: PairSettings,
    live: Alive,
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
    pictures = Pictures(store, block_digits(len(found.pairs), _pixels(store, live)))
    with disk_errors(str(folder)):
        floors = measured(store, floor)
        differences = differences_of(found.pairs, pictures, observer, tables["edits"], floors)
        pairs = decide(found.pairs, differences, settings, _people(store, live, found.pairs))
        _commit_pairs(store, pairs, build[:8])
        accepted = [pair for pair in pairs if pair.verdict == "accepted"]
        export = Export(pictures, accepted, tell(store, live, accepted, sides), around["models"])
        scored = sorted({*rewards, *rewards_of(accepted)})
        shares = any(pair.share not in (None, 0.0, 1.0) for pair in accepted)
        columns = schema(scored, shares=shares, sides=[name for names in sides.values() for name in names])
        splits = write_splits(folder, accepted, export.rows, columns)
        card = {**around, "floors": sorted(set(floors.by.values()))}
        facts = _facts(
            build, pairs, splits, columns, found.scales, _settings_in_force(settings, live), card
        )
        commit(folder, render(facts), splits)


OUTCOME = ("verdict", "reason", "split", "floor")


def _outcomes(store: Store, group: str) -> Counter[tuple[Any, ...]]:
    """OUTCOME → pairs."""
    found: Counter[tuple[Any, ...]] = Counter()
    for batch in store.batches("pairs", OUTCOME, group=group):
        found.update(zip(*(batch[name].to_pylist() for name in OUTCOME), strict=True))
    return found


def _report(outcomes: Mapping[tuple[Any, ...], int], folder: Path, *, fresh: bool) -> PairsReport:
    splits, dropped, whole = Counter[str](), Counter[str](), Counter[str]()
    for (verdict, reason, split, _), count in outcomes.items():
        whole[verdict] += count
        if verdict == "accepted":
            splits[split] += count
            whole["reversed"] += count * (reason == "reversed")
        else:
            dropped[reason] += count
    return PairsReport(
        candidates=whole["accepted"] + whole["dropped"],
        accepted=whole["accepted"],
        reversed=whole["reversed"],
        dropped=dict(sorted(dropped.items())),
        train=splits["train"],
        validation=splits["validation"],
        path=str(folder),
        fresh=fresh,
        floors=tuple(sorted({floor for *_, floor in outcomes if floor is not None})),
    )


# --- what is there -------------------------------------------------------------------------------------


def _around(store: Store, live: Alive, **said: Any) -> dict[str, Any]:
    """What the card says beside the pairs: counts, rejects, sources and what the caller told."""
    wanted = Keys.distinct(joined([keys.array for keys in live.values()]))
    rejects: dict[str, Counter[str]] = {}
    for batch in store.batches("rejects", ["stage", "reason"], among=wanted):
        for stage, reason in zip(batch["stage"].to_pylist(), batch["reason"].to_pylist(), strict=True):
            rejects.setdefault(stage, Counter())[reason] += 1
    prompts = pc.unique(store.columns("images", ["prompt_id"], among=live["images"])["prompt_id"])
    known = store.columns("prompts", ["prompt_id", "source"])
    sources = Counter(known.filter(pc.is_in(known["prompt_id"], value_set=prompts))["source"].to_pylist())
    counts = {table: len(store.keys(table) & live[table]) for table in COUNTED if table in live}
    counts |= {table: len(store.keys(table) & live[table]) for table in live if table not in counts}
    return {
        "counts": {"prompts": len(prompts), **counts},
        "rejects": {stage: dict(sorted(found.items())) for stage, found in sorted(rejects.items())},
        "sources": dict(sorted(sources.items())),
        **said,
    }


def _fingerprint(
    store: Store, settings: PairSettings, live: Alive, around: Mapping[str, Any], floor: Set[str]
) -> str:
    """Of all that the build depends on; a row's key stands for the row, but for how it is decoded."""
    rows = store.columns("images", ["image_id", "decoding"], among=live["images"])
    decoded = rows.filter(pc.not_equal(rows["decoding"], keysets.texts([""])[0])).to_pylist()
    converted = sorted(f"{row['image_id']} {row['decoding']}" for row in decoded)
    tables = {table: store.keys(table).within(live[table]) for table in sorted(live)}
    if there := store.keys("edits").within(Keys.of(floor)):
        tables["floor"] = there  # without any it is the build of a run that has none
    keys = {name: _digest(found) for name, found in tables.items()}
    parts = [KEY_VERSION, _settings_in_force(settings, live), keys, around]
    said = canonical_json([*parts, *([converted] if converted else [])])
    return hashlib.sha256(said.encode()).hexdigest()


def _digest(keys: Keys) -> str:
    """Hash of keys in order, a line each."""
    return hashlib.sha256("\n".join(keys.sorted()).encode()).hexdigest()


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


def _pixels(store: Store, live: Live) -> float:
    """Of a live picture, on average; 0 without any."""
    pixels = count = 0
    for table in ("images", "edits"):
        found = store.columns(table, ["width", "height"], among=Keys.of(live[table]))
        pixels += pc.sum(pc.multiply(found["width"], found["height"])).as_py() or 0
        count += len(found)
    return pixels / count if count else 0.0


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

"""Pairs and the dataset from the tables of a run: candidates, verdicts, files and card."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rpo_cli import keysets
from rpo_cli.config import PairSettings
from rpo_cli.errors import disk_errors
from rpo_cli.exchange.card import Facts, built, render
from rpo_cli.exchange.dataset import CARD, DRAFT, PairNumbers, commit, schema, sweep, write_splits
from rpo_cli.files import draft_folder
from rpo_cli.keysets import AT_ONCE, Keys, digests, joined, union
from rpo_cli.line.dataset.buckets import PER_BUCKET, Buckets, Homes, expected, homes_of, letters
from rpo_cli.line.dataset.comparisons import Comparisons
from rpo_cli.line.dataset.rows import (
    BuildBefore,
    Encoding,
    Export,
    Live,
    Pictures,
    Sides,
    block_digits,
    columns_told,
    mean_pixels,
    on_all_cores,
    tell,
)
from rpo_cli.line.work.edit import Floors, measured
from rpo_cli.pictures import encoder
from rpo_cli.protocols import Observer
from rpo_cli.records import KEY_VERSION, Pair, canonical_json
from rpo_cli.schema import from_table, schema_of
from rpo_cli.stages.margins import Scale
from rpo_cli.stages.pairs import COLUMNS, candidates, scales_of
from rpo_cli.stages.verdicts import VERDICT_COLUMNS, Subject, consensus, decide, opinions_on
from rpo_cli.store import FEW, Store

COUNTED = ("images", "critiques", "edits", "rewards", "preferences", "verdicts")  # of the card, in order
PICTURED = ("images", "edits")
ROWS_PER_PART = 10_000  # and of a batch that is read
ENCODED = "encoded"  # of run.json: by which encoder the pictures of others are in which build
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
    per_bucket: int = PER_BUCKET,
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
        per_bucket: candidates that are in memory at a time, about; of up to ten times so many, all are.

    Raises:
        UsageError: `select_by` names a reward that has scored nothing.
    """
    folder = store.path("dataset")
    there = _there(store, live)
    around = _around(store, live, there, **_card_says(models, notes, license, imports))
    build = _fingerprint(store, settings, there, around, floor)
    group = build[:8]
    files = _present(folder, build)
    if files is None:
        digits = letters(expected(settings, around["counts"]), per_bucket)
        job = _Build(store, settings, there, around, build, floor, sides or {}, digits)
        # the next build clears what a killed one has left
        rows = draft_folder(folder, f"{DRAFT}rows-") if digits else nullcontext()
        with disk_errors(str(folder)), rows as scratch, store.listing():
            job.make(folder, scratch, observer)
    else:
        sweep(folder, files)
    store.prune("pairs", {group})
    return _report(_outcomes(store, group), folder, fresh=files is None)


def is_built(
    store: Store,
    settings: PairSettings,
    *,
    live: Live,
    floor: Set[str] = frozenset(),
    sides: Sides | None = None,
    **said: Any,
) -> bool:
    """Whether `build_dataset` with these arguments would write nothing; reads key columns only."""
    there = _there(store, live)
    around = _around(store, live, there, **_card_says(**said))
    return _present(store.path("dataset"), _fingerprint(store, settings, there, around, floor)) is not None


def _card_says(
    models: Mapping[str, str],
    notes: Sequence[str],
    license: str = "unknown",
    imports: Sequence[Mapping[str, str]] = (),
) -> dict[str, Any]:
    more = {"imports": [dict(item) for item in imports]} if imports else {}
    return {"models": models, "notes": tuple(notes), "license": license, **more}


@dataclass(frozen=True)
class _Build:
    """One build, bucket by bucket, so that no more than the rows of some prompts are objects at a time.

    Candidates are judged and committed first, since the dataset's columns hang on all that is accepted.

    Attributes:
        digits: letters of their prompt_id that the prompts of a bucket have in common.
    """

    store: Store
    settings: PairSettings
    live: Alive
    around: Mapping[str, Any]
    build: str
    floor: Set[str]
    sides: Sides
    digits: int

    @property
    def group(self) -> str:
        """A build's pairs are a group of their own: rows of a verdict never mix with another build's."""
        return self.build[:8]

    @cached_property
    def pixels(self) -> float:
        return mean_pixels(self.store, self.live)

    @cached_property
    def homes(self) -> Homes:
        """All that share the room of a prompt are in one bucket."""
        if not self.digits or self.settings.max_pairs_per_prompt is None:
            return {}
        return homes_of(self._light("images", ["prompt_id", "prompt"]))

    def _light(self, table: str, columns: Sequence[str], among: Keys | None = None) -> Iterator[pa.Table]:
        live = self.live[table] if among is None else among
        return self.store.batches(table, columns, among=live, rows=ROWS_PER_PART)

    def make(self, folder: Path, scratch: Path | None, observer: Observer) -> None:
        """Pairs, data files and card, of which the last makes the others count."""
        rows = Buckets(scratch, self.digits, self.homes)
        for table, columns in COLUMNS.items():
            if table in self.live:
                rows.add(table, self._light(table, columns))
        scored = (rows.tables(bucket, ("images", "rewards")) for bucket in rows)
        scales = scales_of(scored, self.settings)
        floors = measured(self.store, self.floor)
        found = self._decide(rows, scales, floors, observer)
        accepted = Buckets(scratch, self.digits, self.homes)
        self._add_accepted(accepted)
        columns = schema(
            sorted({*scales, *found.rewards}),
            shares=found.shares,
            sides=[name for names in self.sides.values() for name in names],
        )
        pictures = Pictures(self.store, max(self.digits, block_digits(found.counts.total(), self.pixels)))
        with on_all_cores() as pool:
            encoding = Encoding(pictures, _before(self.store, folder), pool)
            splits = write_splits(folder, columns, self._exported(accepted, encoding))
        facts = Facts(
            build=self.build,
            pairs=found,
            splits=splits,
            columns=columns,
            scales={name: (scale.sd, scale.basis) for name, scale in sorted(scales.items())},
            settings=_settings_in_force(self.settings, self.live),
            **{**self.around, "floors": sorted(set(floors.by.values()))},
        )
        commit(folder, render(facts), splits)
        if encoding.others:
            known = {ENCODED: {"build": self.build, "encoder": encoder()}}
            self.store.update_manifest(lambda manifest: {**manifest, **known})

    def _decide(
        self, rows: Buckets, scales: Mapping[str, Scale], floors: Floors, observer: Observer
    ) -> PairNumbers:
        """All candidates as rows of pairs."""
        found = PairNumbers()
        coming = expected(self.settings, self.around["counts"]) if self.digits else None
        opinions = self._opinions()
        others = {part.group for part in self.store.parts("pairs")} - {self.group}
        self.store.prune("pairs", others)  # what a killed build has left
        with Comparisons(self.store, observer, coming, floors) as comparisons:
            for bucket in rows:
                tables = rows.tables(bucket)
                made = candidates(tables, self.settings, scales).pairs
                pictures = Pictures(self.store, self.digits + block_digits(len(made), self.pixels))
                differences = comparisons.of(made, pictures, tables["edits"])
                pairs = decide(made, differences, self.settings, opinions_on(opinions, made))
                for start in range(0, len(pairs), ROWS_PER_PART):
                    self.store.commit("pairs", pairs[start : start + ROWS_PER_PART], group=self.group)
                found.add(pairs)
        self.store.compact("pairs", groups={self.group}, least=FEW)
        return found

    def _opinions(self) -> dict[Subject, str]:
        """What reviewers say of two pictures of a prompt."""
        if (live := self.live.get("verdicts")) is None:
            return {}
        return consensus(self.store.columns("verdicts", VERDICT_COLUMNS, among=live).to_pylist())

    def _add_accepted(self, buckets: Buckets) -> None:
        """The accepted pairs, and what is said of their pictures."""
        names = ("a_id", "b_id")
        sides = (digests(batch[name]) for batch in self._accepted(names) for name in names)
        pictures = Keys.distinct(joined(sides))
        if not pictures:
            return
        buckets.add("pairs", self._accepted(schema_of(Pair).names))
        for table, columns in columns_told(self.sides).items():
            live = self.live[table]
            buckets.add(
                table, self._light(table, columns, live.within(pictures) if table in PICTURED else live)
            )

    def _accepted(self, columns: Sequence[str]) -> Iterator[pa.Table]:
        names = list(dict.fromkeys((*columns, "verdict")))
        for batch in self.store.batches("pairs", names, group=self.group, rows=ROWS_PER_PART):
            yield batch.filter(keysets.is_equal(batch["verdict"], "accepted"))

    def _exported(self, accepted: Buckets, encoding: Encoding) -> Iterator[tuple[str, dict[str, Any]]]:
        """Rows of the dataset, each with its split."""
        for bucket in accepted:
            if (found := accepted.table(bucket, "pairs")) is None:
                continue
            pairs = [row for row in from_table(Pair, found) if isinstance(row, Pair)]
            told = tell(accepted.tables(bucket, tuple(columns_told(self.sides))), self.sides)
            yield from Export(encoding, pairs, told, self.around["models"]).rows(pairs)


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


def _there(store: Store, live: Live) -> Alive:
    """Keys of the live rows that are there."""
    return {table: store.keys(table).within(Keys.of(keys)) for table, keys in live.items()}


def _around(store: Store, live: Live, there: Alive, **said: Any) -> dict[str, Any]:
    """What the card says beside the pairs: counts, rejects, sources and what the caller told."""
    rejected = store.keys("rejects")
    mine = union(rejected.within(Keys.of(keys)) for keys in live.values())
    rejects: dict[str, Counter[str]] = {}
    for batch in store.batches("rejects", ["stage", "reason"], among=mine):
        for stage, reason in zip(batch["stage"].to_pylist(), batch["reason"].to_pylist(), strict=True):
            rejects.setdefault(stage, Counter())[reason] += 1
    prompts = pc.unique(store.columns("images", ["prompt_id"], among=there["images"])["prompt_id"])
    known = store.columns("prompts", ["prompt_id", "source"])
    sources = Counter(known.filter(pc.is_in(known["prompt_id"], value_set=prompts))["source"].to_pylist())
    tables = [table for table in dict.fromkeys((*COUNTED, *there)) if table in there]
    return {
        "counts": {"prompts": len(prompts), **{table: len(there[table]) for table in tables}},
        "rejects": {stage: dict(sorted(found.items())) for stage, found in sorted(rejects.items())},
        "sources": dict(sorted(sources.items())),
        **said,
    }


def _fingerprint(
    store: Store, settings: PairSettings, there: Alive, around: Mapping[str, Any], floor: Set[str]
) -> str:
    """Of all that the build depends on; a row's key stands for the row, but for how it is decoded."""
    rows = store.columns("images", ["image_id", "decoding"], among=there["images"])
    decoded = rows.filter(pc.not_equal(rows["decoding"], keysets.texts([""])[0])).to_pylist()
    converted = sorted(f"{row['image_id']} {row['decoding']}" for row in decoded)
    tables = {table: there[table] for table in sorted(there)}
    if empty := store.keys("edits").within(Keys.of(floor)):
        tables["floor"] = empty  # without any it is the build of a run that has none
    keys = {name: _digest(found) for name, found in tables.items()}
    parts = [KEY_VERSION, _settings_in_force(settings, there), keys, around]
    said = canonical_json([*parts, *([converted] if converted else [])])
    return hashlib.sha256(said.encode()).hexdigest()


def _digest(keys: Keys) -> str:
    """Hash of keys in order, a line each."""
    found, ordered = hashlib.sha256(), keys.sorted().array
    for start in range(0, len(ordered), AT_ONCE):
        lines = "\n".join(keysets.hex_of(ordered.slice(start, AT_ONCE)))
        found.update(f"\n{lines}".encode() if start else lines.encode())
    return found.hexdigest()


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


def _before(store: Store, folder: Path) -> BuildBefore | None:
    """The dataset that stands, where its pictures are as this encoder makes them."""
    known = store.read_manifest().get(ENCODED, {})
    if known.get("encoder") != encoder() or not (folder / CARD).is_file():
        return None
    build, files = built((folder / CARD).read_text(encoding="utf-8"))
    return BuildBefore(folder / name for name in files) if build == known.get("build") else None


def _present(folder: Path, build: str) -> set[str] | None:
    """The data files of this very build, when its card and all of them are there."""
    if not (folder / CARD).is_file():
        return None
    found, files = built((folder / CARD).read_text(encoding="utf-8"))
    whole = found == build and all((folder / name).is_file() for name in files)
    return set(files) if whole else None

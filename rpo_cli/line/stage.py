"""One stage of a run: makes the rows that are missing and commits them part by part."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import accumulate, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rpo_cli import keysets, registry
from rpo_cli.errors import CorruptImage, RpoError, Spent
from rpo_cli.keysets import Keys, digests, union
from rpo_cli.line.rates import keep_rate
from rpo_cli.line.session import Line
from rpo_cli.line.steps import stage_of
from rpo_cli.line.work.base import Shard, Share, StageSpec, Work, reject_reasons, share_of
from rpo_cli.pictures import decode
from rpo_cli.protocols import MakeStage, Results, Stage, Task
from rpo_cli.records import Edit, Image, Reject, Row
from rpo_cli.schema import key_of
from rpo_cli.stages.generate import cut_note
from rpo_cli.stages.replies import SAID, WHAT

SECONDS_PER_PART = 30.0
BYTES_PER_PART = 64 * 2**20
ROUNDS = 2  # full ones that a rate takes: the first was begun before the clock


@dataclass(frozen=True)
class StageReport:
    """What one call of a stage did.

    Attributes:
        wanted: rows that the settings ask for.
        present: rows of them that were there before.
        made: rows made now.
        rejected: rejects of this stage, earlier ones too, by reason in `rejects`.
        rate: rows per second after the first full round, without loading; None before the second.
        full_round: rows that are at work at a time: of all requests in flight, or a batch of each worker.
    """

    stage: str
    wanted: int
    present: int
    made: int
    rejected: int
    rejects: dict[str, int]
    seconds: float
    rate: float | None
    full_round: int = 1


@dataclass
class _Committer:
    """Collects finished rows and commits them part by part; a kill loses at most the part in flight."""

    line: Line
    work: Work
    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    made: int = 0
    full_round: int = 1  # rows that are at work at a time
    since: float = field(default_factory=time.monotonic)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    cleaned: Counter[str] = field(default_factory=Counter)  # of replies: what was done to how many
    guard: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, results: Results) -> None:
        with self.guard:  # rows come from the thread that encodes them, rejects from the one that reads
            self._keep(results)

    def _keep(self, results: Results) -> None:
        rejects = [row for row in results if isinstance(row, Reject)]
        self.rows += [row for row in results if not isinstance(row, Reject)]
        self.rejects += rejects
        self.made += len(results) - len(rejects)
        self.cleaned.update(note for row in results for note in getattr(row, "cleaned", None) or ())
        self.arrivals.append((time.monotonic(), len(results)))
        self.line.observer.advance(len(results) - len(rejects), len(rejects))
        size = sum(len(row.image.bytes) for row in self.rows if hasattr(row, "image"))
        full = len(self.rows) + len(self.rejects) >= self.line.settings.run.rows_per_part
        if full or size >= BYTES_PER_PART or time.monotonic() - self.since >= SECONDS_PER_PART:
            self.flush()

    @property
    def rate(self) -> float | None:
        """Rows per second after the first full round, all of it begun before; None of fewer than two."""
        counts = list(accumulate(rows for _, rows in self.arrivals))
        if not counts or counts[-1] < ROUNDS * self.full_round:
            return None
        first = next(place for place, count in enumerate(counts) if count >= self.full_round)
        seconds = self.arrivals[-1][0] - self.arrivals[first][0]
        return (counts[-1] - counts[first]) / seconds if seconds > 0 else None

    def flush(self) -> None:
        if self.rows:
            self.line.store.commit(self.work.table, self.rows, group=self.work.group)
        if self.rejects:
            self.line.store.commit("rejects", self.rejects)
        self.rows, self.rejects, self.since = [], [], time.monotonic()


def run_stage(
    line: Line,
    name: str,
    *,
    shard: Shard | None = None,
    retry_rejects: bool = False,
    limit: int | None = None,
    allow_missing: bool = False,
) -> StageReport:
    """Make the missing rows of a stage.

    Args:
        shard: (i, n) with 0 <= i < n: only the keys of that share, for several machines on one run.
        retry_rejects: try again what was rejected before.
        limit: make at most this many rows now.
        allow_missing: of a stage of several models (score), go on to the next where one fails, and say so.

    Raises:
        RpoError: a model failed; of a reward it tells how many rows it has scored.
    """
    spec = stage_of(name)
    with line.store.lock(name, shard), line.recorded():
        spec.begin(line)
        started = time.monotonic()
        run_work = partial(_run_one_of, allow_missing) if spec.tolerant else _run_work
        works = spec.works(line)
        reports = [run_work(line, spec, work, shard, retry_rejects, limit) for work in works]
        for note in truncated_notes(line, spec) if reports else ():
            line.observer.note(note)
        if shard is None:  # else nobody excludes other writers
            line.join_parts(spec.table, {work.group for work in works})
    return _sum(name, reports, time.monotonic() - started)


def _run_one_of(
    allow_missing: bool,
    line: Line,
    spec: StageSpec,
    work: Work,
    shard: Shard | None,
    retry_rejects: bool,
    limit: int | None,
) -> StageReport:
    """`_run_work` of one of several models; one that fails is told with what it has scored."""
    try:
        return _run_work(line, spec, work, shard, retry_rejects, limit)
    except RpoError as error:
        if type(error) is not RpoError:  # a wrong setting, a lock, a full disk: no scorer's fault
            raise
        share = share_of(line, work, shard)
        told = f"{work.name} failed with {len(share.present):,} of {len(share.wanted):,} rows scored"
        if not allow_missing:
            hint = f"{error.hint}; rpo build-pairs and rpo run go on without these scores: --allow-missing"
            raise RpoError(f"{told}: {error.message}", hint) from error
        line.observer.note(f"{told}, going on without the others: {error.message}")
        return _reported(line, work, share)


def _reported(line: Line, work: Work, share: "Share") -> StageReport:
    rejects = reject_reasons(line, work, share.wanted)
    wanted, present = len(share.wanted), len(share.present)
    return StageReport(work.name, wanted, present, 0, rejects.total(), dict(rejects), 0.0, None)


def _sum(name: str, reports: list[StageReport], seconds: float) -> StageReport:
    """One report of a stage that ran several models (rewards) one after the other."""
    rejects: Counter[str] = Counter()
    for report in reports:
        rejects.update(report.rejects)
    rates = [report.rate for report in reports if report.rate]
    return StageReport(
        name,
        wanted=sum(report.wanted for report in reports),
        present=sum(report.present for report in reports),
        made=sum(report.made for report in reports),
        rejected=sum(rejects.values()),
        rejects=dict(rejects),
        seconds=seconds,
        rate=1 / sum(1 / rate for rate in rates) * len(rates) if rates else None,
        full_round=max((report.full_round for report in reports), default=1),
    )


def _run_work(
    line: Line, spec: StageSpec, work: Work, shard: Shard | None, retry_rejects: bool, limit: int | None
) -> StageReport:
    started = time.monotonic()
    share = share_of(line, work, shard, retry_rejects=retry_rejects)
    missing = share.missing if limit is None else Keys(share.missing.array.slice(0, limit))
    for note in spec.again(line, work.settings) if missing else ():
        line.observer.note(note)
    committer = _Committer(line, work)
    if missing:
        try:
            _make(line, work, missing, committer, total=len(share.wanted), present=len(share.present))
        except Spent as spent:
            left = len(missing) - sum(rows for _, rows in committer.arrivals)
            raise Spent(
                f"{work.name}: {left:,} of {len(share.wanted):,} rows are left: {spent.message}", spent.hint
            ) from spent
        finally:
            for note in cleaned_notes(committer.cleaned):
                line.observer.note(f"{work.name}: {note}")
    rejects = reject_reasons(line, work, share.wanted)
    return StageReport(
        work.name,
        len(share.wanted),
        len(share.present),
        committer.made,
        sum(rejects.values()),
        dict(rejects),
        time.monotonic() - started,
        committer.rate,
        committer.full_round,
    )


def _make(
    line: Line, work: Work, missing: Keys, committer: _Committer, *, total: int, present: int
) -> None:
    run = line.settings.run
    engine = registry.load("engines", run.engine)(line.observer.note, run)
    line.record(groups={work.name: work.group})
    line.observer.start(work.name, total, present)
    seen: list[tuple[int, int]] = []
    try:
        make = partial(_watched, work.stage, seen)
        engine.run(make, _without_rejects(hydrate(line, work, work.tasks(missing)), committer), committer)
        lanes, batch = max(seen, default=(0, 1))
        committer.full_round = lanes or batch * engine.workers
    finally:
        committer.flush()
        line.observer.finish()
    if committer.rate:
        keep_rate(line.store, work.name, committer.rate)


def _watched(make: MakeStage, seen: list[tuple[int, int]], device: str, environment: str) -> Stage:
    """A stage that notes into `seen` how many requests its backend has in flight, and its batch size."""
    stage = make(device, environment)
    seen.append((0, stage.batch_size))
    return replace(stage, build=partial(_built, stage.build, stage.batch_size, seen))


def _built(build: Callable[[], Any], batch: int, seen: list[tuple[int, int]]) -> Any:
    backend = build()
    seen.append((int(getattr(backend, "lanes", 0)), batch))
    return backend


def _without_rejects(items: Iterable[Task | Reject], sink: Callable[[Results], None]) -> Iterator[Task]:
    for item in items:
        if isinstance(item, Reject):
            sink([item])
        else:
            yield item


def cleaned_notes(counts: Mapping[str, int]) -> Iterator[str]:
    """Lines: "5 replies held thinking, which was cut away".

    Args:
        counts: what was done, a key of `SAID` → to how many replies or instructions.
    """
    for note, count in sorted(counts.items()):
        what, several = ("reply", "replies") if note not in WHAT else (WHAT[note], f"{WHAT[note]}s")
        yield f"{count:,} {what if count == 1 else several} {SAID[note]}"


def truncated_notes(line: Line, spec: StageSpec) -> list[str]:
    """A line on the texts of a stage that are longer than a text encoder reads; nothing where none is."""
    if spec.text is None:
        return []
    key, (column, what) = key_of(spec.table), spec.text
    rows = line.store.columns(spec.table, [key, column, "truncated"])
    if rows["truncated"].null_count == len(rows):
        return []
    keys = union(work.keys for work in spec.works(line)).without(spec.apart(line))
    live = rows.filter(keysets.as_array(keysets.among(digests(rows[key]), keys.array)))
    cut = live.filter(pc.cast(pc.list_value_length(live["truncated"]), pa.bool_())).to_pylist()
    texts = {row[column]: {item["name"]: item["value"] for item in row["truncated"]} for row in cut}
    note = cut_note(spec.name, what, texts, of=len(pc.unique(live[column])))
    return [note] if note else []


CHUNK = 32  # pictures beside those of the tasks in flight
TASKS = 4096  # for which pictures are looked up at a time; their own lie in neighbouring parts


def hydrate(line: Line, work: Work, tasks: Iterable[Task]) -> Iterator[Task | Reject]:
    """The tasks with their pictures, read part by part; a corrupt picture is a reject of its tasks."""
    waiting = iter(tasks)
    found = (
        item
        for some in iter(lambda: list(islice(waiting, TASKS)), [])
        for item in _with_own(line, work, some)
    )
    if work.other_of is None:
        yield from found
        return
    while chunk := list(islice(found, CHUNK)):
        yield from _with_others(line, work, chunk)


def _with_others(line: Line, work: Work, items: list[Task | Reject]) -> Iterator[Task | Reject]:
    """The tasks with the images that they are compared with; few at a time."""
    assert work.other_of is not None
    asked = (work.other_of(item) for item in items if isinstance(item, Task))
    ids = {other for other in asked if other is not None}
    others = {row.key: row for row in line.store.fetch("images", ids)} if ids else {}
    for item in items:
        other = work.other_of(item) if isinstance(item, Task) else None
        if isinstance(item, Reject) or other is None:
            yield item
            continue
        row = others[other]
        assert isinstance(row, Image)
        try:
            picture = decode(row.image.bytes)
        except CorruptImage as error:
            yield _corrupt(work, item, error)
        else:
            yield replace(item, payload=replace(item.payload, other=picture))


def _with_own(line: Line, work: Work, tasks: list[Task]) -> Iterator[Task | Reject]:
    if work.picture_of is None:
        yield from tasks
        return
    wanted: dict[str, dict[str, list[Task]]] = {}
    for task in tasks:
        table, key = work.picture_of(task)
        wanted.setdefault(table, {}).setdefault(key, []).append(task)
    for table, by_key in wanted.items():
        for row in line.store.fetch(table, set(by_key)):
            assert isinstance(row, Image | Edit)
            yield from _with_picture(work, by_key[row.key], row.image.bytes)


def _with_picture(work: Work, tasks: list[Task], data: bytes) -> Iterator[Task | Reject]:
    try:
        picture = decode(data)
    except CorruptImage as error:
        yield from (_corrupt(work, task, error) for task in tasks)
        return
    yield from (replace(task, payload=replace(task.payload, picture=picture)) for task in tasks)


def _corrupt(work: Work, task: Task, error: CorruptImage) -> Reject:
    return Reject(
        key_of=task.key,
        stage=work.name,
        input_id=task.input_id,
        reason="corrupt_image",
        detail=str(error)[:2000],
        settings=work.settings,
    )

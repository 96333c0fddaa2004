"""What is done in a run, missing, rejected and old, and the command to type next."""

import shlex
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rpo_cli.errors import RpoError
from rpo_cli.keysets import union
from rpo_cli.line.dataset.comparisons import TABLE as COMPARISONS
from rpo_cli.line.dataset.comparisons import prune_comparisons
from rpo_cli.line.dataset.inputs import dataset_is_current
from rpo_cli.line.evaluation.models import IN_PASSING, dataset_files, evaluated, finished, trained_on
from rpo_cli.line.imports.sources import (
    KEPT,
    STAGE,
    ImportedSource,
    dead_parts,
    import_groups,
    imported,
    imported_sources,
    labelled_only,
    rejects_of,
)
from rpo_cli.line.rates import rate_of, rates
from rpo_cli.line.session import Line, open_line
from rpo_cli.line.steps import LAST, every_step, making
from rpo_cli.line.steps import stages as specs
from rpo_cli.line.training import RoundsStatus, rounds_status
from rpo_cli.line.work.base import StageSpec, Work, reject_reasons
from rpo_cli.line.work.critics import is_function
from rpo_cli.store import open_store
from rpo_cli.train.data.pairs import is_of_dataset


def next_command(line: Line, stages: "Sequence[StageStatus]", *, stale: bool = False) -> str | None:
    """A whole command line; None when nothing is left to make, or no command mends what is wrong.

    Args:
        stale: the dataset is older than what it is built from.
    """
    run = shlex.quote(line.store.url)
    settings = line.settings
    prompted = settings.prompts.file is not None or settings.prompts.dataset is not None
    if "prompts" not in line.store.read_manifest() and not any(stage.stage == "import" for stage in stages):
        return f"rpo generate {run}{'' if prompted else ' --prompts FILE'}"
    counts = {stage.stage: stage for stage in stages}
    for spec in specs():
        if spec.name not in counts or not spec.used(line):
            continue
        command = f"rpo {spec.command} {run}"
        if counts[spec.name].wanted is None:
            return f"{command}{_model(line, spec)}" if _model(line, spec) else None
        if counts[spec.name].missing:
            return command
    return f"rpo build-pairs {run}" if stale else _after_rows(line, run)


def following(line: Line, command: str) -> str:
    """The command to type after one that has done its work; looks at settings alone, reads no row."""
    steps = (*every_step(), "eval", "report")
    done = FIRST if command == "import" else command
    left = steps[steps.index(done) + 1 :] if done in steps else ()
    then, option = "status", ""
    for step in left:
        found = [spec for spec in making(step) if spec.used(line)]
        if found or step in (*LAST, "eval", "report"):
            then = step
            option = (
                _reward(line) if step == "build-pairs" else "".join(_model(line, spec) for spec in found)
            )
            break
    return f"rpo {then} {shlex.quote(line.store.url)}{option}"


def _reward(line: Line) -> str:
    judged = bool(line.settings.score.named) or labelled_only(line)
    return "" if judged else " --reward NAME=FOLDER_OR_HUB_ID"


def _model(line: Line, spec: StageSpec) -> str:
    """The option that names a stage's model, when the settings name none."""
    section = getattr(line.settings, spec.section or spec.name, None)
    unset = spec.role and getattr(section, spec.role, spec.role) is None
    return f" --{spec.role} FOLDER_OR_HUB_ID" if unset else ""


def _after_rows(line: Line, run: str) -> str | None:
    files = line.store.files
    if not files.exists("dataset/README.md"):
        return f"rpo build-pairs {run}{_reward(line)}"
    started = {name.split("/")[1] for name in files.find("train", "/settings.json") if name.count("/") == 2}
    done = {name.split("/")[1] for name in files.find("train", "/done.json") if name.count("/") == 2}
    if left := sorted(started - done):
        return f"rpo train {run} --name {shlex.quote(left[0])}"
    if not done:
        return f"rpo train {run}"
    if not evaluated(line):
        return f"rpo eval {run}"
    return None if files.exists("report/index.html") else f"rpo report {run}"


AUDIT = "dataset.json"  # in RUN/eval/<name>: what `rpo eval --judge-labels` writes
# where a run's bytes are, beside the tables of its stages; everything else is small
FOLDERS = ("comparisons", "pairs", "dataset", "cache", "train", "eval", "try", "report")
FIRST = "generate"  # what an import stands in for


@dataclass(frozen=True)
class StageStatus:
    """One stage of a run.

    Attributes:
        wanted: rows that the settings ask for, given the rows upstream; None: cannot be told (`problem`).
        stale: rows of older settings; `rpo status --prune` drops them.
        floor: rows among those present that measure what the editor does unasked, and take part in nothing.
        rate: rows per second when the stage last ran here; None when that is not known.
    """

    stage: str
    wanted: int | None
    present: int
    rejected: int
    rejects: dict[str, int]
    stale: int
    bytes: int
    problem: str | None = None
    rate: float | None = None
    floor: int = 0

    @property
    def missing(self) -> int | None:
        return None if self.wanted is None else self.wanted - self.present - self.rejected


@dataclass(frozen=True)
class RunStatus:
    """A run at a glance.

    Attributes:
        pairs: candidates; accepted and dropped (by reason) are those of the last `rpo build-pairs`.
        outdated: finished trainings on other pairs than the dataset has now; none where that is too large
            to look at in passing.
        sources: what was imported, sources that were withdrawn too.
        audited: names under which `rpo eval --judge-labels` has judged the labels.
        current: whether the dataset is what build-pairs would make now; None: there is none, or it cannot
            be told.
        disk: folder of the run → bytes, those that hold something.
        next: the command to type now; None when nothing is left to make.
    """

    path: str
    preset: str
    prompts: int
    stages: list[StageStatus]
    pairs: int
    dataset: str | None
    trained: list[str]
    evaluated: list[str] = field(default_factory=list)
    disk: dict[str, int] = field(default_factory=dict)
    next: str | None = None
    rounds: list[RoundsStatus] = field(default_factory=list)
    current: bool | None = None
    accepted: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    outdated: list[str] = field(default_factory=list)
    audited: list[str] = field(default_factory=list)
    sources: list[ImportedSource] = field(default_factory=list)


def status(path: str | Path) -> RunStatus:
    """Count the rows of a run by stage; reads key columns only and loads no model."""
    line = open_line(path, create=False, uses=())
    with line.store.listing():
        return _status(line, path)


def _status(line: Line, path: str | Path) -> RunStatus:
    files = line.store.files
    stages = [*_imports(line), *(_stage(line, spec) for spec in specs())]
    current = is_current(line)
    pairs = line.store.tally("pairs", ["verdict", "reason"])
    dropped = Counter({reason: n for (verdict, reason), n in pairs.items() if verdict == "dropped"})
    return RunStatus(
        path=str(path),
        preset=line.resolved.preset,
        prompts=line.store.read_manifest().get("prompts", {}).get("count", 0)
        + len(imported(line, "prompts")),
        stages=stages,
        pairs=pairs.total(),
        dataset=files.join("dataset") if files.exists("dataset/README.md") else None,
        trained=finished(line),
        evaluated=evaluated(line),
        disk={name: size for name in _folders() if (size := sum(files.find(name, "").values()))},
        next=next_command(line, stages, stale=current is False),
        rounds=rounds_status(line.store),
        current=current,
        accepted=pairs.total() - dropped.total(),
        dropped=dict(sorted(dropped.items())),
        outdated=outdated(line),
        audited=evaluated(line, AUDIT),
        sources=imported_sources(line),
    )


def _folders() -> tuple[str, ...]:
    return (*(spec.table for spec in specs()), *FOLDERS)


def outdated(line: Line) -> list[str]:
    """Names of the finished trainings whose pairs are not those that the dataset holds now."""
    files = [file for file in dataset_files(line.store) if file.is_file()]
    if not files or sum(file.stat().st_size for file in files) > IN_PASSING:
        return []
    known = {name: trained_on(line.store.path("train", name), "dataset") for name in finished(line)}
    if not any(known.values()):
        return []
    if not any(file.name.startswith("train-") for file in files):
        return [name for name, data in known.items() if data is not None]
    folder = line.store.path("dataset")
    return [name for name, data in known.items() if data is not None and not is_of_dataset(folder, data)]


def is_current(line: Line) -> bool | None:
    """Whether the dataset is what build-pairs would make now; None: there is none, or it cannot be told."""
    # datasets are on local disks only
    if line.store.files.local is None or not line.store.files.exists("dataset/README.md"):
        return None
    try:
        current = dataset_is_current(line)
    except RpoError:
        return None
    # functions count only where they are named, so rows of theirs look as if they had gone
    groups = line.store.read_manifest().get("groups", {})
    scored = (name.removeprefix("score ") for name in groups if name.startswith("score "))
    return current if current or not any(map(is_function, scored)) else None


def _imports(line: Line) -> list[StageStatus]:
    """Pictures that were imported; nothing in a run without imports."""
    found = import_groups(line)
    if not found:
        return []
    rejects, live = rejects_of(line), imported(line, "images")
    present = len(live)
    wanted = present + sum(rejects.values())
    parts = [part for part in line.store.parts("images") if part.group in found]
    size = sum(part.bytes for part in parts)
    stale = len(union(line.store.part_keys("images", part) for part in parts).without(live))
    return [StageStatus("import", wanted, present, sum(rejects.values()), rejects, stale, size)]


def _stage(line: Line, spec: StageSpec) -> StageStatus:
    name, table = spec.name, spec.table
    others = import_groups(line)
    counts = {group: n for group, n in line.store.counts(table).items() if group not in others}
    size = sum(part.bytes for part in line.store.parts(table) if part.group not in others)
    try:
        found = spec.works(line)
    except RpoError as error:
        return StageStatus(name, None, sum(counts.values()), 0, {}, 0, size, error.message)
    rejects: dict[str, int] = {}
    for work in found:
        for reason, count in reject_reasons(line, work, work.keys).items():
            rejects[reason] = rejects.get(reason, 0) + count
    there = union(work.keys for work in found).within(line.store.keys(table))
    floor = len(spec.apart(line).within(there))
    stale = sum(count for group, count in counts.items() if group not in groups(found))
    wanted = sum(len(work.keys) for work in found)
    rate = rate_of(rates(line.store), name)
    rejected = sum(rejects.values())
    return StageStatus(name, wanted, len(there), rejected, rejects, stale, size, None, rate, floor)


def groups(found: list[Work]) -> set[str]:
    return {work.group for work in found}


def prune(path: str | Path) -> dict[str, int]:
    """Drop the rows of older settings; returns how many rows each table lost."""
    line = open_line(path, create=False, uses=())
    dropped = {}
    for spec in specs():
        table = spec.table
        with line.store.lock(spec.name):
            try:
                keep = groups(spec.works(line)) | import_groups(line)
            except RpoError:
                continue  # a model is gone, so what is wanted cannot be told: drop nothing of this stage
            counts = line.store.counts(table)
            line.store.prune(table, keep)
            dropped[table] = sum(count for group, count in counts.items() if group not in keep)
    with line.store.lock(STAGE):
        for table in KEPT:
            line.store.prune(
                table, line.store.counts(table)
            )  # what a dead part replaces must not come back
            for part, rows in dead_parts(line, table):
                line.store.files.delete(part)
                dropped[table] = dropped.get(table, 0) + rows
    with line.store.lock("build-pairs"):
        if gone := prune_comparisons(line.store):
            dropped[COMPARISONS] = gone
    return dropped


def compact(path: str | Path) -> dict[str, int]:
    """Join small parts into large ones; returns how many files of each table were replaced."""
    store = open_store(path)
    with ExitStack() as held:
        for name in ("import", "review", *(spec.name for spec in specs())):  # every stage writes rejects
            held.enter_context(store.lock(name))
        tables = (*(spec.table for spec in specs()), "preferences", "verdicts", "rejects", "claims")
        return {table: store.compact(table) for table in tables}

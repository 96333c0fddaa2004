"""`train`: the one door to training. Loads no model when the work is done, and refuses to mix two runs.

OUT/settings.json              what is being trained; other settings under the same name are refused
OUT/metrics.jsonl              one line per optimiser step and per validation
OUT/checkpoint-<step>.safetensors   the newest only, gone at the end
OUT/adapter/                   the result, with its model card; OUT/unet/ or OUT/transformer/ of full tuning
OUT/done.json                  written last: the commit
"""

import json
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpo_cli import registry
from rpo_cli.compute import launched, pick_device
from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.records import content_key
from rpo_cli.train.origin import Embedder, Start

if TYPE_CHECKING:
    from rpo_cli.train.distributed.launch import Share
    from rpo_cli.train.prepare import Inputs

# settings that say when to look, not what to compute
SCHEDULE_ONLY = frozenset(
    {"name", "model", "save_every", "validate_every", "seed", "export", "loggers", "processes", "dataset"}
)
CHECKPOINTS = "checkpoint-*.safetensors"
# dataset, model, its revision and identity, the dataset's; folders of training, result and cache; seed
Place = tuple[Path, str, str | None, str, str, Path, Path, Path, int]


@dataclass(frozen=True)
class TrainReport:
    """What a training made. The metrics hold {} where there was nothing to measure.

    Attributes:
        images: pictures that an online method sampled, for comparisons at equal budget.
    """

    name: str
    steps: int
    pairs: int
    adapter: Path
    train_first: dict[str, float] = field(default_factory=dict)
    train_last: dict[str, float] = field(default_factory=dict)
    validation_first: dict[str, float] = field(default_factory=dict)
    validation_last: dict[str, float] = field(default_factory=dict)
    skipped: bool = False
    images: int = 0


def train(
    settings: TrainSettings,
    *,
    dataset: Path,
    model: str,
    revision: str | None,
    model_identity: str,
    out: Path,
    cache: Path,
    seed: int,
    device: str,
    threads: int = 0,
    observer: Observer | None = None,
    embedder: Embedder | None = None,
    start: Start | None = None,
) -> TrainReport:
    """Fine-tune `model` on the pairs of `dataset`, going on where an earlier call was cut off.

    May be killed at any moment: the same call again ends with the bytes of an undisturbed one, on the same
    kind of machine. The caller holds the lock of `out`. Under a launcher every process calls it: the first
    writes the files, the others compute their share and report no numbers.

    Args:
        dataset: a dataset folder (data/train-*.parquet, data/validation-*.parquet), or one of pictures that
            were judged one by one (`singles.py`).
        model: diffusers folder or hub id; `model_identity` is its commit or weight hash.
        out: RUN/train/<name>. `cache`: RUN/cache.
        device: a torch device string or "auto". `seed`: of this training, whatever `settings.seed` says.
        embedder: for methods that compare pictures of several prompts.
        start: of a training that goes on from another one; None: from the model.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no training pairs, a tie, or `out` belongs to other settings.
        CorruptImage: a picture of the dataset does not decode.
        MissingDependency: a package that the settings need is not installed.
        RpoError: the loss is not finite, or memory is too small for one pair.
    """
    from rpo_cli.train.compose import for_data, require_embedder, settled

    settings, objective = settled(settings)
    for_data(objective, settings, dataset)
    embedder = require_embedder(objective, embedder)
    result = result_folder(out, settings.full)
    data = data_of(dataset, out)
    identity = identity_of(settings, embedder, seed=seed, model=model_identity, dataset=data)
    identity |= {"start": start.identity} if start else {}
    identity |= {"numbers": dict(objective.numbers)} if objective.numbers else {}
    report = finished(out, identity, settings.name, result)
    place = (dataset, model, revision, model_identity, data, out, result, cache, seed)
    if report is not None:
        return with_exports(report, settings, place, device, threads)
    begin(settings, out, identity)
    from rpo_cli.train.prepare import Inputs

    inputs = Inputs(settings, *place, pick_device(device, launched()), embedder, start)
    report = _trained(inputs, threads, observer or Silent())
    commit(out, identity, report)
    return report


def data_of(dataset: Path, out: Path) -> str:
    """What tells the dataset from others; a training that is there keeps its own name for this one."""
    from rpo_cli.train.data.pairs import fingerprint, is_of_dataset

    now = fingerprint(dataset)
    known = [saved_identity(out / name).get("dataset") for name in ("done.json", "settings.json")]
    other = next((name for name in known if name not in (None, now)), None)
    return str(other) if other is not None and is_of_dataset(dataset, str(other)) else now


def saved_identity(path: Path) -> dict[str, Any]:
    """What a training has written of itself; {} where there is nothing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("identity", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return found if isinstance(found, dict) else {}


def _trained(inputs: "Inputs", threads: int, observer: Observer) -> TrainReport:
    """All processes of a training, from its first missing step to the export."""
    from rpo_cli.train.distributed.launch import crew, threads_each
    from rpo_cli.train.loop import run_training

    settings = inputs.settings
    threads = threads_each(threads, settings.processes)
    share = partial(_share, inputs, threads)
    with crew(settings, inputs.device, share) as world:
        pairs, (first, last, before, after) = run_training(inputs, threads, observer, world)
    result = result_folder(inputs.out, settings.full)
    return TrainReport(settings.name, settings.steps, pairs, result, first, last, before, after)


def _share(inputs: "Inputs", threads: int, device: str) -> "Share":
    """What a helper on `device` does of a training."""
    from rpo_cli.train.loop import run_training

    return partial(run_training, replace(inputs, device=device), threads, Silent())


def with_exports(
    report: TrainReport, settings: TrainSettings, place: Place, device: str, threads: int
) -> TrainReport:
    """A finished training, with the layouts (`train.export`) that were asked for since.

    Args:
        place: of `prepare.Inputs`, from the dataset to the seed.
    """
    lacking = [layout for layout in settings.export if not (report.adapter / layout).exists()]
    if lacking and not launched().rank:
        from rpo_cli.train.data.storage import remove_temporaries
        from rpo_cli.train.loop import add_exports
        from rpo_cli.train.policy import require_packages
        from rpo_cli.train.prepare import Inputs

        require_packages(settings)
        remove_temporaries(report.adapter.parent)
        add_exports(Inputs(settings, *place, pick_device(device)), threads)
    return report


def identity_of(settings: TrainSettings, embedder: Embedder | None, **what: Any) -> dict[str, Any]:
    """Everything that determines the result: what has another identity is another training."""
    said = settings.model_dump(mode="json", exclude=set(SCHEDULE_ONLY), exclude_none=True)
    code = registry.code_of("objectives", settings.method)
    more = {"embedder": embedder.identity} if embedder else {}
    return {**said, **more, **({"code": code} if code else {}), **what}


def result_folder(out: Path, full: bool) -> Path:
    """Where the result is, or will be: a fully tuned denoiser lies under its own kind of name."""
    if not full:
        return out / "adapter"
    return out / "transformer" if (out / "transformer").exists() else out / "unet"


def finished(out: Path, identity: dict[str, Any], name: str, result: Path) -> TrainReport | None:
    path = out / "done.json"
    if not (path.exists() and result.exists()):
        return None
    done = json.loads(path.read_text(encoding="utf-8"))
    refuse_other(out, done["identity"], identity, name)
    _drop_checkpoints(out)
    return TrainReport(**{**done["report"], "adapter": result, "name": name}, skipped=True)


def begin(settings: TrainSettings, out: Path, identity: dict[str, Any]) -> None:
    """Look for the packages that the settings need; the first process takes `out` for its training."""
    from rpo_cli.train.policy import require_packages

    require_packages(settings)
    if not launched().rank:
        claim(out, identity, settings.name)


def claim(out: Path, identity: dict[str, Any], name: str) -> None:
    from rpo_cli.train.data.storage import remove_temporaries, write_atomically

    path = out / "settings.json"
    if path.exists() and any(out.glob(CHECKPOINTS)):  # there is work to lose
        refuse_other(out, json.loads(path.read_text(encoding="utf-8"))["identity"], identity, name)
    else:
        write_atomically(path, _json({"key": content_key("train", identity), "identity": identity}))
    remove_temporaries(out)


def refuse_other(out: Path, old: dict[str, Any], new: dict[str, Any], name: str) -> None:
    changed = [
        f"{key} {old.get(key)!r} → {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if changed:
        raise UsageError(
            f"training '{name}' was made with other settings: {', '.join(changed)}",
            f"give this one a name of its own with --name, or delete {out} to train it again",
        )


def commit(out: Path, identity: dict[str, Any], report: TrainReport) -> None:
    """Tell that the training is whole; the first process alone does."""
    if launched().rank:
        return
    from rpo_cli.train.data.storage import write_atomically

    unsaid = {"adapter", "skipped", "name", *(() if report.images else ("images",))}
    told = {key: value for key, value in asdict(report).items() if key not in unsaid}
    write_atomically(
        out / "done.json",
        _json({"key": content_key("train", identity), "identity": identity, "report": told}),
    )
    _drop_checkpoints(out)


def _drop_checkpoints(out: Path) -> None:
    for checkpoint in out.glob(CHECKPOINTS):
        checkpoint.unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()

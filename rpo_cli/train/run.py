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
from rpo_cli.compute import launched, pick_device, set_threads
from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.records import content_key
from rpo_cli.train.composition import (
    Embedder,
    OnlineInputs,
    TrainInputs,
    for_data,
    require_embedder,
    settled,
)
from rpo_cli.train.objectives.objective import Objective

if TYPE_CHECKING:
    from rpo_cli.train.processes import Share

# settings that say when to look, not what to compute
SCHEDULE_ONLY = frozenset(
    {
        *("name", "model", "save_every", "validate_every", "validation_draws", "seed", "export"),
        *("loggers", "processes", "dataset"),
    }
)
CHECKPOINTS = "checkpoint-*.safetensors"


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


def train(inputs: TrainInputs, observer: Observer | None = None) -> TrainReport:
    """Fine-tune the model on the pairs of the dataset, going on where an earlier call was cut off.

    May be killed at any moment: the same call again ends with the bytes of an undisturbed one, on the same
    kind of machine. The caller holds the lock of `out`. Under a launcher every process calls it: the first
    writes the files, the others compute their share and report no numbers.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no training pairs, a tie, or `out` belongs to other settings.
        CorruptImage: a picture of the dataset does not decode.
        MissingDependency: a package that the settings need is not installed.
        RpoError: the loss is not finite, or memory is too small for one pair.
    """
    inputs, objective = of_method(inputs)
    for_data(objective, inputs.settings, inputs.dataset)
    settings, out, code = inputs.settings, inputs.out, family_code(inputs)
    data = data_of(inputs.dataset, out)
    what = {"seed": inputs.seed, "model": inputs.model_identity, "dataset": data}
    what |= {"start": inputs.start.identity} if inputs.start else {}
    what |= {"family": code} if code else {}
    identity = identity_of(settings, inputs.embedder, **what)
    identity |= {"numbers": dict(objective.numbers)} if objective.numbers else {}
    report = finished(out, identity, settings)
    if report is not None:
        return with_exports(report, inputs)
    begin(settings, out, identity)
    inputs = replace(inputs, dataset_identity=data, device=pick_device(inputs.device, launched()))
    report = _trained(encoded_by(inputs, code), observer or Silent())
    commit(out, identity, report)
    return report


@dataclass(frozen=True)
class Prepared:
    """What a training will find encoded: items of both splits, and the folder of the encodings."""

    pairs: int
    held_out: int
    cache: Path


def prepare_cache(inputs: TrainInputs, observer: Observer | None = None) -> Prepared:
    """Encode the pictures and captions of a training, which then loads no encoder; as `train`.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no training pairs, or a tie.
        CorruptImage: a picture of the dataset does not decode.
    """
    from rpo_cli.train.families.family import open_family
    from rpo_cli.train.job import prepare

    inputs, _ = of_method(inputs)
    inputs = encoded_by(inputs, family_code(inputs))
    set_threads(inputs.threads)
    family = open_family(inputs.model, inputs.revision)
    family.check()
    job = prepare(replace(inputs, device=pick_device(inputs.device)), family, observer or Silent())
    return Prepared(len(job.pairs), len(job.held_out), inputs.cache)


def of_method(inputs: TrainInputs) -> tuple[TrainInputs, Objective]:
    """The inputs with the method's own numbers, and without an embedder that it does not use; the method.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the method needs an embedder, and there is none.
    """
    settings, objective = settled(inputs.settings)
    embedder = require_embedder(objective, inputs.embedder)
    return replace(inputs, settings=settings, embedder=embedder), objective


def family_code(inputs: TrainInputs | OnlineInputs) -> dict[str, str]:
    """Whose code encodes and predicts, where the family is not ours, see `registry.code_of`; else {}."""
    if registry.names("families").keys() == registry.families.keys():
        return {}  # no third party's is installed, and nothing is loaded to find that out
    from rpo_cli.train.families.family import serving

    return registry.code_of("families", serving(inputs.model, inputs.revision))


def encoded_by(inputs: TrainInputs, code: dict[str, str]) -> TrainInputs:
    """The inputs with a third party's code in the model's name: another code encodes other latents."""
    whose = f", by {code['place']} of {code['distribution']} {code['version']}" if code else ""
    return replace(inputs, model_identity=f"{inputs.model_identity}{whose}")


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


def _trained(inputs: TrainInputs, observer: Observer) -> TrainReport:
    """All processes of a training, from its first missing step to the export."""
    from rpo_cli.train.loop import run_training
    from rpo_cli.train.processes import crew, threads_each

    settings = inputs.settings
    inputs = replace(inputs, threads=threads_each(inputs.threads, settings.processes))
    with crew(settings, inputs.device, partial(_share, inputs)) as world:
        pairs, (first, last, before, after) = run_training(inputs, world, observer=observer)
    result = result_folder(inputs.out, settings.full)
    return TrainReport(settings.name, settings.steps, pairs, result, first, last, before, after)


def _share(inputs: TrainInputs, device: str) -> "Share":
    """What a helper on `device` does of a training."""
    from rpo_cli.train.loop import run_training

    return partial(run_training, replace(inputs, device=device), observer=Silent())


def with_exports(report: TrainReport, inputs: TrainInputs | OnlineInputs) -> TrainReport:
    """A finished training, with the layouts (`train.export`) that were asked for since."""
    settings = inputs.settings
    lacking = [layout for layout in settings.export if not (report.adapter / layout).exists()]
    if lacking and not launched().rank:
        from rpo_cli.train.loop import add_exports
        from rpo_cli.train.policy import require_packages
        from rpo_cli.train.storage import remove_temporaries

        require_packages(settings)
        remove_temporaries(report.adapter.parent)
        add_exports(replace(inputs, device=pick_device(inputs.device)), report.adapter)
    return report


def identity_of(settings: TrainSettings, embedder: Embedder | None, **what: Any) -> dict[str, Any]:
    """Everything that determines the result: what has another identity is another training."""
    own = settings.model_dump(mode="json", exclude=set(SCHEDULE_ONLY), exclude_none=True)
    code = registry.code_of("objectives", settings.method)
    more = {"embedder": embedder.identity} if embedder else {}
    return {**own, **more, **({"code": code} if code else {}), **what}


def result_folder(out: Path, full: bool) -> Path:
    """Where the result is, or will be: a fully tuned denoiser lies under its own kind of name."""
    if not full:
        return out / "adapter"
    return out / "transformer" if (out / "transformer").exists() else out / "unet"


def finished(out: Path, identity: dict[str, Any], settings: TrainSettings) -> TrainReport | None:
    """What a training that is whole has reported; None: it is not whole."""
    path, result, name = out / "done.json", result_folder(out, settings.full), settings.name
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
    from rpo_cli.train.storage import remove_temporaries, write_atomically

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
    from rpo_cli.train.storage import write_atomically

    kept_out = {"adapter", "skipped", "name", *(() if report.images else ("images",))}
    kept = {key: value for key, value in asdict(report).items() if key not in kept_out}
    write_atomically(
        out / "done.json",
        _json({"key": content_key("train", identity), "identity": identity, "report": kept}),
    )
    _drop_checkpoints(out)


def _drop_checkpoints(out: Path) -> None:
    for checkpoint in out.glob(CHECKPOINTS):
        checkpoint.unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()

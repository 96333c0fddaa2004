"""train: the run's dataset → an adapter or a UNet in RUN/train/<name>, with numbers that nobody gave."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rpo_cli.compute import launched, pick_device
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError, SettingsError, UsageError
from rpo_cli.exchange.card import built
from rpo_cli.exchange.dataset import sweep
from rpo_cli.line.session import Line
from rpo_cli.line.work.critics import reward_models
from rpo_cli.line.work.model_checks import warn_of_pairs
from rpo_cli.line.work.models import model_of, pipeline_index
from rpo_cli.recipes.training import Number, family_of_pipeline, numbers_of
from rpo_cli.stages.opponents import STRATEGIES
from rpo_cli.store import Store, open_store
from rpo_cli.train.composition import Embedder, Start, TrainInputs, composed, is_online
from rpo_cli.train.data.pairs import rows_of_split
from rpo_cli.train.run import Prepared, TrainReport, prepare_cache
from rpo_cli.train.run import train as train_model

if TYPE_CHECKING:
    from rpo_cli.train.composition import BetaAdvice
    from rpo_cli.train.look_ahead.plan import TrainPlan
    from rpo_cli.train.look_ahead.probe import TrainProbe

FILLED = ("learning_rate", "caption_dropout", "flip")


def with_numbers(line: Line, settings: TrainSettings) -> TrainSettings:
    """The settings with every number that the family and the method decide.

    A beta that nobody has published for the two is told.
    """
    family, objective = family_of(line, settings), composed(settings)
    found = numbers_of(family, settings.method, full=settings.full, beta=objective.default_beta)
    own = {name: getattr(found, name).value for name in FILLED if getattr(settings, name) is None}
    if settings.warmup_steps is None:
        own["warmup_steps"] = int(found.warmup.value * settings.steps)
    if settings.beta is None and settings.beta_from is None and objective.default_beta is not None:
        beta = found.beta or Number(objective.default_beta, "the method's own number", published=False)
        own["beta"] = beta.value
        if family and not beta.published:
            line.say(_unpublished(family, settings.method, beta))
    return settings.model_copy(update=own)


def origins_of(line: Line, settings: TrainSettings) -> dict[str, str]:
    """Setting of `[train]` that `with_numbers` fills → where its number is from."""
    family, own = family_of(line, settings), composed(settings).default_beta
    found = numbers_of(family, settings.method, full=settings.full, beta=own)
    sources = {"warmup_steps": found.warmup, "beta": found.beta}
    sources |= {name: getattr(found, name) for name in FILLED}
    where = f"{family or 'family'} × {settings.method}"
    return {name: f"{where} ({number.source})" for name, number in sources.items() if number is not None}


def _unpublished(family: str, method: str, beta: Number) -> str:
    return (
        f"train.beta: nobody has published one for {method} on {family or 'this family'}; {beta.value:g} "
        "is "
        f"{beta.source}: `rpo train RUN --suggest-beta` proposes one from the model's errors"
    )


def family_of(line: Line, settings: TrainSettings) -> str:
    """The name of the model's family; "" where its files tell none, which training itself refuses."""
    try:
        model, revision = model_of(line, settings)
        index = pipeline_index(line.identity(model, revision))
    except RpoError:
        return ""
    return family_of_pipeline(str(index.get("_class_name", "")))


def fine_tune(line: Line, start: Start | None = None) -> TrainReport:
    """Fine-tune on the run's dataset, or on pictures of the policy's own when the method samples.

    A finished training with the same settings returns at once.

    Of several processes that a launcher started, the first holds the lock and writes.

    Args:
        start: of a training that goes on from another one; None: from the model.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the run has no dataset yet, or the name is that of a training in rounds.
    """
    if is_online(line.settings.train):
        from rpo_cli.line.online import fine_tune_online

        return fine_tune_online(line)
    settings = own_settings(line)
    inputs = replace(_checked_inputs(line, settings), start=start)
    if line.store.path("train", settings.name, "rounds").exists():
        raise UsageError(
            f"training '{settings.name}' was made in rounds",
            "pass --rounds to go on with it, or give this one a name of its own with --name",
        )
    if launched().rank:
        return train_model(inputs)
    with line.store.lock(f"train-{settings.name}"), line.recorded(training=True):
        if start is None and not line.store.files.exists(f"train/{settings.name}/done.json"):
            warn_of_pairs(line, settings, rows_of_split(dataset_of(line, settings)))
        return train_model(inputs, line.observer)


def suggest_beta(line: Line) -> "BetaAdvice":
    """A β for the method on the run's model and dataset; trains nothing.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the run has no dataset yet, or the method's β is no scale of denoising errors.
    """
    from rpo_cli.train.look_ahead.probe import propose_beta

    _refuse_online(line, "--suggest-beta")
    return propose_beta(_checked_inputs(line, own_settings(line)), line.observer)


def prepare(line: Line) -> Prepared:
    """Fill the caches of the training and end.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the run has no dataset yet.
    """
    _refuse_online(line, "--prepare")
    return prepare_cache(_checked_inputs(line, own_settings(line)), line.observer)


def probe(line: Line, steps: int) -> "TrainProbe":
    """Time some optimiser steps of the training and throw their weights away.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the run has no dataset yet, or the training is one in rounds or of several processes.
    """
    from rpo_cli.train.look_ahead.probe import probe as probe_training

    _refuse_online(line, "--probe")
    settings = own_settings(line)
    if settings.rounds:
        raise UsageError(
            "--probe times steps on a dataset, and rounds make theirs as they go", "leave out --rounds"
        )
    return probe_training(_checked_inputs(line, settings), steps, line.observer)


def plan(line: Line) -> "TrainPlan":
    """What the training would take; reads configurations only, and needs no dataset yet.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: there is no run, or the model is of no family that can be trained.
    """
    from rpo_cli.train.look_ahead.plan import plan as plan_training

    _refuse_online(line, "--dry-run")
    open_store(line.store.url)
    settings = own_settings(line)
    model, revision = model_of(line, settings)
    dataset, device = dataset_of(line, settings), pick_device(line.settings.run.device)
    return plan_training(settings, dataset=dataset, model=model, revision=revision, device=device)


def _refuse_online(line: Line, option: str) -> None:
    """Refuse what looks at a dataset for a method that has none."""
    method = line.settings.train.method
    if is_online(line.settings.train):
        raise UsageError(
            f"{option} is for methods that learn from pairs; {method} samples pictures of its own",
            f"leave it out: rpo train RUN --method {method} --rounds K",
        )


def check_layouts(line: Line) -> None:
    """Refuse layouts (`train.export`) that the model's LoRA cannot have.

    Raises:
        UsageError: see `train.export.require_layouts`.
    """
    from rpo_cli.train.export.layouts import require_layouts
    from rpo_cli.train.families.family import open_family

    settings = own_settings(line)
    model, revision = model_of(line, settings)
    require_layouts(settings, open_family(model, line.identity(model, revision).commit))


def add_layouts(line: Line, adapter: Path) -> None:
    """Write the layouts (`train.export`) that a finished LoRA lacks."""
    from rpo_cli.train.loop import add_exports

    inputs = _inputs(line, own_settings(line))
    add_exports(replace(inputs, device=pick_device(inputs.device)), adapter)


def _checked_inputs(line: Line, settings: TrainSettings) -> TrainInputs:
    """What a training on a dataset that is there is made from.

    Raises:
        UsageError: the run has no dataset yet.
    """
    inputs = _inputs(line, settings)
    if settings.dataset is None:
        _sweep(line, inputs.dataset)
    return replace(inputs, embedder=_embedder(line, settings))


def _inputs(line: Line, settings: TrainSettings) -> TrainInputs:
    """What a training is made from, without an embedder; whether its dataset is there is not asked."""
    run = line.settings.run
    model, revision = model_of(line, settings)
    identity = line.identity(model, revision)
    return TrainInputs(
        settings,
        dataset=dataset_of(line, settings),
        model=model,
        revision=identity.commit,
        model_identity=identity.revision,
        out=line.store.path("train", settings.name),
        cache=line.store.path("cache"),
        seed=run.seed if settings.seed is None else settings.seed,
        device=run.device,
        threads=run.threads,
    )


def dataset_of(line: Line, settings: TrainSettings) -> Path:
    """The dataset's folder: another one where the settings name it, else the run's.

    Raises:
        UsageError: the folder that they name holds nothing to learn from.
    """
    if settings.dataset is None:
        return line.store.path("dataset")
    folder = Path(settings.dataset)
    if rows_of_split(folder) is None:
        raise UsageError(
            f"train.dataset: {folder} holds no pairs (data/train-*.parquet) and no judged pictures "
            "(train/metadata.jsonl or .csv)",
            "give a dataset folder, or what `rpo export RUN kto` wrote",
        )
    return folder


def _sweep(line: Line, dataset: Path) -> None:
    """Delete what a rebuild that was killed left beside the files of the last build.

    Raises:
        UsageError: there is no dataset yet.
    """
    card = dataset / "README.md"
    if not card.is_file():
        raise UsageError(f"{dataset}: no dataset yet", f"rpo build-pairs {line.store.url}")
    if not launched().rank:
        with line.store.lock("build-pairs"):
            sweep(dataset, set(built(card.read_text(encoding="utf-8"))[1]))


def own_settings(line: Line) -> TrainSettings:
    """The settings of the training, checked against its method, with the numbers of its family and method.

    Raises:
        SettingsError: every setting that contradicts the method.
    """
    settings = line.settings.train
    if is_online(settings):
        from rpo_cli.line.online import own_online_settings

        return own_online_settings(line)[0]
    objective = composed(settings)
    if objective.losers != "given" and not (settings.rounds or line.settings.pairs.strategy in STRATEGIES):
        raise SettingsError(
            "settings",
            [f"train.rounds: {objective.name} makes its losers itself, in rounds, and none are asked for"],
            "pass --rounds K",
        )
    return with_numbers(line, settings)


def _embedder(line: Line, settings: TrainSettings) -> Embedder | None:
    """The CLIP model that the settings or the rewards name, for a method that needs one."""
    model = settings.embedder or dict(reward_models(line)).get("clip")
    if model is None or not composed(settings).needs_embedder:
        return None
    identity = line.identity(model)
    return Embedder(model, identity.commit, identity.revision)


@dataclass(frozen=True)
class RoundsStatus:
    """A training in rounds: how many were asked for, how many are done."""

    name: str
    rounds: int
    done: int


def rounds_status(store: Store) -> list[RoundsStatus]:
    """Every training of a run that was made in rounds, by name; reads names and one small file of each."""
    found = []
    for path in store.files.find("train", "/settings.json"):
        parts = path.split("/")
        saved = json.loads(store.files.read(path)) if len(parts) == 3 else {}
        if "rounds" in saved:
            name = parts[1]
            place = f"train/{name}/rounds"
            done = [
                file.split("/")[3]
                for file in store.files.find(place, f"/train/{name}/done.json")
                if len(file.split("/")) == 7
            ]
            found.append(RoundsStatus(name, int(saved["rounds"]), len(done)))
    return sorted(found, key=lambda status: status.name)

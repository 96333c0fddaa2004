"""What can be done before a training: fill its cache, propose a β. Takes what `run.train` takes."""

from dataclasses import dataclass
from pathlib import Path

from rpo_cli.compute import pick_device, set_threads
from rpo_cli.config import TrainSettings
from rpo_cli.protocols import Observer, Silent
from rpo_cli.train.compose import BetaAdvice
from rpo_cli.train.origin import Embedder


@dataclass(frozen=True)
class Prepared:
    """What a training will find encoded: items of both splits, and the folder of the encodings."""

    pairs: int
    held_out: int
    cache: Path


def prepare_cache(
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
) -> Prepared:
    """Encode the pictures and captions of a training, which then loads no encoder; as `train`.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no training pairs, or a tie.
        CorruptImage: a picture of the dataset does not decode.
    """
    from rpo_cli.train.compose import require_embedder, settled
    from rpo_cli.train.families import open_family
    from rpo_cli.train.prepare import Inputs, prepare

    settings, objective = settled(settings)
    embedder = require_embedder(objective, embedder)
    set_threads(threads)
    family = open_family(model, revision)
    family.check()
    where = (dataset, model, revision, model_identity, "", out, out, cache, seed, pick_device(device))
    job = prepare(Inputs(settings, *where, embedder), family, observer or Silent())
    return Prepared(len(job.pairs), len(job.held_out), cache)


def propose_beta(
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
) -> BetaAdvice:
    """A β for this method, model and data; takes what `train` takes, and trains nothing.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the method's β is no scale of denoising errors.
    """
    from rpo_cli.train.compose import require_embedder, settled
    from rpo_cli.train.look_ahead.probe import advise
    from rpo_cli.train.prepare import Inputs

    settings, objective = settled(settings)
    embedder = require_embedder(objective, embedder)
    where = (dataset, model, revision, model_identity, "", out, out, cache, seed, pick_device(device))
    return advise(Inputs(settings, *where, embedder), objective, threads, observer or Silent())

"""`rpo train --probe K`: K optimiser steps, timed, on this machine; their weights are thrown away."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from rpo_cli.compute import launched, pick_device, set_threads
from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.train.compose import for_data, require_embedder, settled
from rpo_cli.train.distributed.process_group import ALONE
from rpo_cli.train.export.export import require_layouts
from rpo_cli.train.families import open_family
from rpo_cli.train.loop import move_averages, ready
from rpo_cli.train.packages import require_packages
from rpo_cli.train.prepare import Inputs
from rpo_cli.train.run import Embedder
from rpo_cli.train.step import train_step

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class TrainProbe:
    """What some optimiser steps took, after one that is not counted because it warms up.

    Attributes:
        remaining: steps of the training that are not in its checkpoint.
        remaining_hours: what they take at this pace, without validations and checkpoints.
    """

    method: str
    steps: int
    seconds: float
    pairs_per_second: float
    remaining: int
    remaining_hours: float


def probe(
    settings: TrainSettings,
    steps: int,
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
) -> TrainProbe:
    """Make `steps` steps of a training and time them; the cache is filled, nothing else is written.

    Takes what `train` takes.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no training pairs, or several processes.
    """
    settings, objective = settled(settings)
    for_data(objective, settings, dataset)
    embedder = require_embedder(objective, embedder)
    if max(settings.processes, launched().size) > 1:
        raise UsageError("--probe times one process, and several are asked for", "leave out --processes")
    require_packages(settings)
    set_threads(threads)
    family = open_family(model, revision)
    family.check()
    require_layouts(settings, family)
    where = (dataset, model, revision, model_identity, "", out, out, cache, seed, pick_device(device))
    observer = observer or Silent()
    job, state = ready(Inputs(settings, *where, embedder), family, observer, ALONE)
    remaining = max(0, settings.steps - state.step)
    job = replace(job, starts_equal=job.starts_equal and state.step == 0)

    def step() -> None:
        train_step(job, state, observer)
        move_averages(job, state)
        if torch.device(job.device).type == "cuda":
            torch.cuda.synchronize(job.device)

    step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    seconds = time.perf_counter() - began
    pace = steps * settings.global_batch / seconds
    hours = remaining * seconds / steps / SECONDS_AN_HOUR
    return TrainProbe(objective.name, steps, seconds, pace, remaining, hours)

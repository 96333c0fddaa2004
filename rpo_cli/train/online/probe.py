"""`rpo train --probe K` of a method that samples: K batches drawn, scored and learned from, timed."""

import time
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import torch

from rpo_cli.compute import launched, pick_device, set_threads
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.train.distributed.process_group import ALONE
from rpo_cli.train.online.compose import settled_online
from rpo_cli.train.online.lesson import State
from rpo_cli.train.online.loop import Inputs, drawn, enough_memory, learned, load_judges, ready
from rpo_cli.train.online.rollout import Judges
from rpo_cli.train.online.run import Rewards, require_work
from rpo_cli.train.online.sampling import drawn_in_round
from rpo_cli.train.online.teach import Teacher
from rpo_cli.train.packages import require_packages

SECONDS_AN_HOUR = 3600


@dataclass(frozen=True)
class OnlineProbe:
    """What some pictures took, after a first batch that is not counted because it warms up.

    Attributes:
        pictures: drawn, scored and learned from once.
        drawing: seconds a picture, of its denoising steps and its rewards.
        learning: seconds a use of a picture that is learned from.
        remaining: rounds of the training that are not in its checkpoint.
        remaining_hours: what they take at this pace, when every prompt of theirs has a pair to learn from.
    """

    method: str
    pictures: int
    drawing: float
    learning: float
    remaining: int
    remaining_hours: float


def probe_online(
    settings: TrainSettings,
    online: OnlineSettings,
    batches: int,
    *,
    prompts: list[tuple[str, str]],
    rewards: Rewards,
    model: str,
    revision: str | None,
    model_identity: str,
    out: Path,
    seed: int,
    device: str,
    negative_prompt: str = "",
    threads: int = 0,
    observer: Observer | None = None,
) -> OnlineProbe:
    """Draw and learn from `batches` forward passes of pictures and time both; writes nothing.

    Takes what `train_online` takes.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no prompts or rewards, a model that cannot be sampled so, or several processes.
    """
    settings, online, objective = settled_online(settings, online)
    require_work(objective.name, online, prompts, rewards)
    if launched().size > 1:
        raise UsageError("--probe times one process, and several were started", "leave out the launcher")
    require_packages(settings)
    set_threads(threads)
    where: Any = (model, revision, model_identity, out, out, seed, pick_device(device))
    what: Any = (settings, online, objective, sorted(prompts), "", rewards, negative_prompt)
    inputs, observer = Inputs(*what, *where), observer or Silent()
    teacher, state = ready(inputs, observer, ALONE)
    remaining = max(0, (settings.rounds or 0) - state.round)
    with enough_memory(settings):
        judges = load_judges(inputs, teacher)
        timed(*short_round(inputs, teacher, 1), judges, state, observer)
        short, briefly = short_round(inputs, teacher, batches)
        drawing, learning, pictures, uses = timed(short, briefly, judges, state, observer)
    whole = drawn_in_round(online, len(prompts))
    taught = 2 * whole // online.images_per_prompt if objective.paired else whole
    seconds = whole * drawing / pictures + online.inner_epochs * taught * learning / uses
    hours = remaining * seconds / SECONDS_AN_HOUR
    return OnlineProbe(objective.name, pictures, drawing / pictures, learning / uses, remaining, hours)


def short_round(inputs: Inputs, teacher: Teacher, batches: int) -> tuple[Inputs, Teacher]:
    """As the training, but in rounds of some forward passes; every pair is learned from, and once."""
    prompts = ceil(batches * teacher.rows / inputs.online.images_per_prompt)
    online = inputs.online.model_copy(update={"prompts_per_round": prompts, "inner_epochs": 1})
    objective = replace(inputs.objective, min_margin=0.0) if inputs.objective.paired else inputs.objective
    return (
        replace(inputs, online=online, objective=objective),
        replace(teacher, online=online, objective=objective),
    )


def timed(
    inputs: Inputs, teacher: Teacher, judges: Judges, state: State, observer: Observer
) -> tuple[float, float, int, int]:
    """Seconds of drawing and of learning; pictures that were drawn, and uses of them."""
    began = _clock(inputs.device)
    rollout = drawn(inputs, teacher, judges, state, observer)
    between = _clock(inputs.device)
    learned(teacher, rollout, state, observer)
    ended = _clock(inputs.device)
    state.round += 1
    uses = teacher.objective.width * len(rollout.prompts) if teacher.objective.paired else rollout.pictures
    return between - began, ended - between, rollout.pictures, uses


def _clock(device: str) -> float:
    """Seconds, once the device has done what it was told."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

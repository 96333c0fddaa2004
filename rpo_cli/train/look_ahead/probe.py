"""K steps of a training, timed and thrown away; the β that fits the reference's errors."""

import time
from dataclasses import dataclass, replace
from math import prod

import torch

from rpo_cli.compute import launched, pick_device, set_threads
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Observer, Silent
from rpo_cli.train.composition import BetaAdvice, TrainInputs, for_data, suggest_beta
from rpo_cli.train.export.layouts import require_layouts
from rpo_cli.train.families.family import open_family
from rpo_cli.train.item_errors import assemble, item_errors
from rpo_cli.train.job import prepare
from rpo_cli.train.loop import fitted, move_averages, ready
from rpo_cli.train.noise import training_draw
from rpo_cli.train.objectives.objective import SALESFORCE, Errors, join
from rpo_cli.train.policy import build_policy, load_texts, require_packages, weight_dtype
from rpo_cli.train.processes import ALONE
from rpo_cli.train.run import of_method
from rpo_cli.train.step import train_step

DRAWS = 64


def propose_beta(inputs: TrainInputs, observer: Observer | None = None) -> BetaAdvice:
    """A β for this method, model and data: the untrained model on the first draws of the training.

    Nothing is trained; of what is written only the cache stays.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: the objective's β is no scale of denoising errors.
    """
    inputs, objective = of_method(inputs)
    if objective.beta_unit != SALESFORCE:
        raise UsageError(
            f"--suggest-beta: the beta of {objective.name} is another thing: {objective.beta_unit}",
            "leave --beta out to use the method's own",
        )
    inputs = replace(inputs, device=pick_device(inputs.device))
    set_threads(inputs.threads)
    family = open_family(inputs.model, inputs.revision)
    family.check()
    job = fitted(prepare(inputs, family, observer or Silent()), inputs, observer or Silent())
    denoiser = family.load_denoiser(weight_dtype(job.settings))
    texts = load_texts(family, job.settings, inputs.device)
    policy = build_policy(denoiser, job.settings, family.lora_targets, inputs.seed, inputs.device, texts)
    draws = [training_draw(job.draws, 0, place, DRAWS) for place in range(DRAWS)]
    width, size = len(job.pairs[0].pictures), job.batch_size

    def part(start: int) -> Errors:
        batch = assemble(draws[start : start + size], job.pairs, job.cache, job.schedule, job.device)
        return item_errors(policy, family, batch, with_reference=False, grad=False, width=width)

    found = join([part(start) for start in range(0, DRAWS, size)])
    return suggest_beta(objective, found, prod(job.cache.shape))


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


def probe(inputs: TrainInputs, steps: int, observer: Observer | None = None) -> TrainProbe:
    """Make `steps` steps of a training and time them; the cache is filled, nothing else is written.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: no training pairs, or several processes.
    """
    inputs, objective = of_method(inputs)
    settings, observer = inputs.settings, observer or Silent()
    for_data(objective, settings, inputs.dataset)
    if max(settings.processes, launched().size) > 1:
        raise UsageError("--probe times one process, and several are asked for", "leave out --processes")
    require_packages(settings)
    set_threads(inputs.threads)
    family = open_family(inputs.model, inputs.revision)
    family.check()
    require_layouts(settings, family)
    job, state = ready(replace(inputs, device=pick_device(inputs.device)), family, observer, ALONE)
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

"""train with a method that samples: the run's prompts and rewards → an adapter in RUN/train/<name>."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from rpo_cli import registry
from rpo_cli.compute import launched, pick_device
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import SettingsError, nearest
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.session import Line
from rpo_cli.line.work.critics import (
    built_reward,
    reward_identity,
    reward_models,
    reward_options,
    served_model,
)
from rpo_cli.line.work.generate import live_prompts, parent_prompts, take_prompts
from rpo_cli.line.work.model_checks import warn_of_words
from rpo_cli.line.work.models import drawn_by, model_of
from rpo_cli.protocols import Reward, Weights
from rpo_cli.store import open_store
from rpo_cli.text import split_of
from rpo_cli.train.composition import OF_PAIRS, OnlineInputs, Rewards
from rpo_cli.train.objectives.online import ONLINE_HINT, OnlineObjective, composed_online
from rpo_cli.train.online.run import train_online
from rpo_cli.train.run import TrainReport

if TYPE_CHECKING:
    from rpo_cli.train.online.look_ahead import OnlinePlan, OnlineProbe


def fine_tune_online(line: Line) -> TrainReport:
    """Fine-tune on pictures that the policy draws for the run's training prompts; needs no dataset.

    Of several processes that a launcher started, the first holds the lock and writes.

    Raises:
        SettingsError: settings that contradict the method, or rewards that the run has not.
        UsageError: no model, prompts or rewards.
    """
    settings, online = own_online_settings(line)
    inputs = _inputs(line, settings, online)
    if launched().rank:
        return train_online(inputs)
    with line.store.lock(f"train-{settings.name}"), line.recorded(training=True):
        return train_online(inputs, line.observer)


def probe_online(line: Line, batches: int) -> "OnlineProbe":
    """Time some batches of the training and throw away what they learned.

    Raises:
        SettingsError: settings that contradict the method, or rewards that the run has not.
        UsageError: no model, prompts or rewards, or several processes.
    """
    from rpo_cli.train.online.look_ahead import probe_online as probe_training

    settings, online = own_online_settings(line)
    return probe_training(_inputs(line, settings, online), batches, line.observer)


def _inputs(line: Line, settings: TrainSettings, online: OnlineSettings) -> OnlineInputs:
    """What a training is made from."""
    run = line.settings.run
    model, revision = model_of(line, settings)
    identity = line.identity(model, revision)
    return OnlineInputs(
        settings,
        online,
        prompts=_prompts(line),
        rewards=_rewards(line, online),
        model=model,
        revision=identity.commit,
        model_identity=identity.revision,
        out=line.store.path("train", settings.name),
        seed=run.seed if settings.seed is None else settings.seed,
        device=run.device,
        negative_prompt=line.settings.generate.negative_prompt or "",
        threads=run.threads,
    )


def _prompts(line: Line) -> list[tuple[str, str]]:
    """(prompt_id, prompt) of the training split; the first of several processes takes them into the run."""
    fraction = line.settings.pairs.val_fraction
    if launched().rank:  # its first process may be about to
        found = [
            (prompt.prompt_id, prompt.prompt) for prompt in read_prompts(line.settings.prompts).prompts
        ]
    else:
        with line.store.lock("generate"):
            take_prompts(line)
        found = list(live_prompts(line))
        model = line.identity(*model_of(line, line.settings.train))
        warn_of_words(line, model, (text for _, text in found))
    return [(key, text) for key, text in found if split_of(text, fraction) == "train"]


def plan_online(line: Line) -> "OnlinePlan":
    """What the training would take; reads prompts and configurations only.

    Raises:
        SettingsError: settings that contradict the method.
        UsageError: there is no run, no prompts, or a model that cannot be sampled so.
    """
    from rpo_cli.train.online.look_ahead import plan_online as plan_training

    open_store(line.store.url)
    settings, online = own_online_settings(line)
    model, revision = model_of(line, settings)
    fraction = line.settings.pairs.val_fraction
    count = sum(split_of(prompt, fraction) == "train" for prompt in parent_prompts(line))
    device = pick_device(line.settings.run.device)
    return plan_training(settings, online, prompts=count, model=model, revision=revision, device=device)


def own_online_settings(line: Line) -> tuple[TrainSettings, OnlineSettings]:
    """Both sections, checked against the method; what only the preset says of pairs does not count.

    A preset's learning rate is made for methods that learn from pairs: without a word of the user's the
    method's own is taken.

    Raises:
        SettingsError: every setting that contradicts the method.
    """
    settings, origins = line.settings.train, line.resolved.origins
    objective: OnlineObjective = registry.load("objectives", settings.method)
    unsaid = {"default", f"preset {line.resolved.preset}"}
    own = {name: neutral for name, neutral in OF_PAIRS.items() if origins[f"train.{name}"] in unsaid}
    if origins["train.learning_rate"] in unsaid:
        own["learning_rate"] = objective.learning_rate
    settings = settings.model_copy(update=own)
    sampled = drawn_by(line, *model_of(line, settings)).options
    filled = {"steps": sampled["steps"], "guidance": sampled["guidance"] or 1.0}  # 1: without guidance
    online = line.settings.online
    online = online.model_copy(
        update={name: value for name, value in filled.items() if getattr(online, name) is None}
    )
    problems = _unknown_rewards(line, online)
    if origins["train.steps"] == "option":
        problems.append(f"train.steps: {objective.name} counts rounds (--rounds), not optimiser steps")
    try:
        composed_online(settings, online)
    except SettingsError as error:
        problems += error.problems
    if problems:
        raise SettingsError("settings", problems, ONLINE_HINT)
    return settings, online


def _unknown_rewards(line: Line, online: OnlineSettings) -> list[str]:
    known = [name for name, _ in reward_models(line)]
    return [
        f"online.rewards: '{name}' is not among score.rewards: {', '.join(known)}{nearest(name, known)}"
        for name in online.rewards
        if name not in known
    ]


def _rewards(line: Line, online: OnlineSettings) -> Rewards:
    """The rewards of the run that the method aims at, not loaded yet."""
    chosen = [item for item in reward_models(line) if not online.rewards or item[0] in online.rewards]
    found = {name: (ref, *reward_identity(line, name, ref)) for name, ref in chosen}
    dtype = line.settings.score.dtype
    options = {
        name: (Weights(served_model(model), model.commit, dtype=dtype), reward_options(line, name))
        for name, (_, model, _) in found.items()
    }
    return Rewards(
        {name: said for name, (_, _, said) in found.items()},
        partial(_built, options),
        line.settings.score.batch_size,
    )


def _built(options: Mapping[str, tuple[Weights, dict[str, Any]]], device: str) -> dict[str, Reward]:
    """The rewards by name, on their device."""
    rewards: dict[str, Reward] = {}
    for name, (weights, how) in options.items():
        rewards[name] = built_reward(name, replace(weights, device=device), **how)
        rewards[name].setup()
    return rewards

"""Everything that can be checked before a model loads, all mistakes at once."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from rpo_cli.config import Settings
from rpo_cli.errors import MissingDependency, RpoError, SettingsError, UsageError
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.context import Line
from rpo_cli.line.counters import check_counter_edits
from rpo_cli.line.critics import check_python, check_reached, critic_identity, required
from rpo_cli.line.model_checks import check_editor, check_generator, check_licences
from rpo_cli.line.online import model_of
from rpo_cli.line.training import own_settings
from rpo_cli.line.work import critique_work, live_images, reward_identity, reward_models
from rpo_cli.registry import APART, ENGINE_NEEDS, reward_templates
from rpo_cli.store import open_store
from rpo_cli.templates import Templates
from rpo_cli.train.online.compose import is_online


def preflight(line: Line, steps: Sequence[str]) -> None:
    """Check names, folders, templates and schedulers of the steps ahead.

    Raises:
        SettingsError: every mistake found.
        RpoError: the one problem there is that is no mistake (a hub that cannot be reached).
    """
    errors: list[RpoError] = []
    engine: Callable[[], Any] = partial(check_engine, line.settings.run.engine)
    for step in steps:
        for check in (engine, *_checks(line)[step]):
            try:
                check()
            except RpoError as error:
                errors.append(error)
    unique = {error.message: error for error in errors}
    if len(unique) == 1:
        raise next(iter(unique.values()))
    if unique:
        problems = [message.replace("\n", "\n  ") for message in unique]
        hints = dict.fromkeys(error.hint for error in unique.values())
        raise SettingsError("settings", problems, "; ".join(hints))


def require_rows(line: Line, step: str) -> None:
    """Refuse a step that has nothing to work on: RUN is misspelt, or the step before was forgotten.

    Raises:
        UsageError: no run here, no live picture in it, or, for edit, no critique of one.
    """
    run = line.store.url
    open_store(run)
    if not live_images(line):
        raise UsageError(
            f"{run}: there are no pictures of these settings yet",
            f"rpo generate {run} makes them; rpo import {run} SOURCE takes others",
        )
    if step == "edit" and not critique_work(line).keys & line.store.keys("critiques"):
        raise UsageError(f"{run}: there are no critiques of these settings yet", f"rpo critique {run}")


def _checks(line: Line) -> dict[str, list[Callable[[], Any]]]:
    s = line.settings
    return {
        "generate": [
            # a file is quick to read; a dataset of the hub is read once, by the stage
            *([partial(read_prompts, s.prompts)] if s.prompts.dataset is None else []),
            partial(check_generator, line),
            *([partial(_scheduler, s.generate.scheduler)] if s.generate.scheduler else []),
        ],
        "rounds": [
            partial(_model, line, s.train.model or s.generate.generator, "generate.generator", _branch(s)),
            *([partial(_scheduler, s.generate.scheduler)] if s.generate.scheduler else []),
        ],
        "critique": [
            partial(check_reached, line, s.critique.backend),
            partial(_critic, line),
            partial(Templates.find, line.templates, s.critique.template),
        ],
        "edit": [
            partial(check_editor, line),
            partial(check_counter_edits, line),
            *([partial(_scheduler, s.edit.scheduler)] if s.edit.scheduler else []),
        ],
        "build-pairs": [partial(check_counter_edits, line), *_rewards(line)],
        "train": [
            partial(own_settings, line),
            partial(_trained, line),
            *(_rewards(line) if is_online(s.train) else []),
        ],
    }


def _branch(settings: Settings) -> str | None:
    """Of the generator; a model that training names itself has none."""
    return settings.generate.revision if settings.train.model is None else None


def check_engine(name: str) -> None:
    """Refuse an engine whose package is not installed; imports nothing.

    Raises:
        MissingDependency: so it is.
    """
    package = ENGINE_NEEDS.get(name)
    if package and find_spec(package) is None:
        raise MissingDependency(
            f"run.engine: {name} needs the package {package}, which is not installed",
            f"pip install 'rpo-cli[{package}]', or --engine local",
        )


def _model(line: Line, ref: str | None, setting: str, revision: str | None) -> None:
    check_licences(line, [line.identity(required(ref, setting), revision)])


def _critic(line: Line) -> None:
    check_licences(line, [critic_identity(line)])


def _rewards(line: Line) -> list[Callable[[], None]]:
    """One check each, so that all that are wrong are told."""
    return [partial(_reward, line, name, ref) for name, ref in reward_models(line)]


def _reward(line: Line, name: str, ref: str) -> None:
    if name in reward_templates:
        check_reached(line, line.settings.score.backend)
    if name in APART:
        check_python("score.python", line.settings.score.python, "torch and transformers")
    check_licences(line, [reward_identity(line, name, ref)[0]])


def _trained(line: Line) -> None:
    """The model that is tuned, wherever it is named, and what measures likeness beside it."""
    train = line.settings.train
    model, revision = model_of(line, train)
    others = [line.identity(train.embedder)] if train.embedder else []
    check_licences(line, [line.identity(model, revision), *others])


def _scheduler(name: str) -> None:
    from rpo_cli.backends.pipelines import scheduler_named

    scheduler_named(name)

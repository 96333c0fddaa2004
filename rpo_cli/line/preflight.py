"""Everything that can be checked before a model loads, all mistakes at once."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from rpo_cli import installing
from rpo_cli.config import Settings
from rpo_cli.errors import MissingDependency, RpoError, SettingsError, UsageError
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.identity import ModelIdentity
from rpo_cli.line.imports.sources import generates, labelled_only
from rpo_cli.line.online import model_of
from rpo_cli.line.session import Line
from rpo_cli.line.training import own_settings
from rpo_cli.line.work.critics import (
    SERVED,
    check_python,
    check_reached,
    critic_identity,
    required,
    reward_identity,
)
from rpo_cli.line.work.critique import critique_work, style
from rpo_cli.line.work.edit import check_counter_edits
from rpo_cli.line.work.generate import live_images
from rpo_cli.line.work.model_checks import check_editor, check_generator, check_models
from rpo_cli.line.work.models import editor, generator
from rpo_cli.line.work.score import reward_models
from rpo_cli.line.worlds import check_worlds, refuse_worlds
from rpo_cli.registry import APART, ENGINE_NEEDS, reward_templates
from rpo_cli.scopes import CRITIC, EDITOR, GENERATOR, MODEL, REWARDS
from rpo_cli.store import open_store
from rpo_cli.templates import Templates
from rpo_cli.train.online.compose import is_online

# setting that names a model → the option that does
OPTIONS = {
    GENERATOR: "--generator MODEL",
    CRITIC: "--critic MODEL",
    EDITOR: "--editor MODEL",
    REWARDS: "--reward NAME=MODEL",
    MODEL: "--model MODEL",
}


class NoModel(UsageError):
    """Models that nobody has named."""

    def __init__(self, settings: Sequence[str], message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.settings = tuple(settings)


def preflight(line: Line, steps: Sequence[str]) -> None:
    """Check names, folders, templates and schedulers of the steps ahead.

    Raises:
        SettingsError: every mistake found.
        RpoError: the one problem there is that is no mistake (a hub that cannot be reached).
    """
    errors: list[RpoError] = []
    unnamed: tuple[str, ...] = ()
    try:
        require_models(line, steps)
    except NoModel as error:
        errors.append(error)
        unnamed = error.settings
    engine: Callable[[], Any] = partial(check_engine, line.settings.run.engine)
    for step in steps:
        for check in (engine, *_checks(line)[step]):
            try:
                check()
            except RpoError as error:
                if error.message not in {f"{name} is not set" for name in unnamed}:
                    errors.append(error)
    unique = {error.message: error for error in errors}
    if len(unique) == 1:
        raise next(iter(unique.values()))
    if unique:
        problems = [message.replace("\n", "\n  ") for message in unique]
        hints = dict.fromkeys(error.hint for error in unique.values())
        raise SettingsError("settings", problems, "; ".join(hints))


def require_models(line: Line, steps: Sequence[str]) -> None:
    """Refuse steps whose models nobody has named: no model is assumed, the embedded ones neither.

    Raises:
        NoModel: tells which, and the three ways to name them.
    """
    s = line.settings
    lacking = {
        "generate": s.generate.generator is None and generates(line) and GENERATOR,
        "critique": s.critique.critic is None and s.critique.backend != SERVED and CRITIC,
        "edit": s.edit.editor is None and EDITOR,
        "build-pairs": not (s.score.named or labelled_only(line)) and REWARDS,
        "train": s.train.model is None and s.generate.generator is None and MODEL,
    }
    missing = [name for step, name in lacking.items() if step in steps and name]
    every = tuple(missing)
    if GENERATOR in missing and MODEL in missing:
        missing.remove(MODEL)  # which tunes that one
    if missing:
        raise NoModel(
            every,
            f"no model is named for {', '.join(missing)}",
            f"--preset NAME (`rpo list presets`), an rpo.toml (`rpo init {line.store.url} --preset NAME`), "
            "or "
            f"name {'it' if len(missing) == 1 else 'them'}: {' '.join(OPTIONS[name] for name in missing)}",
        )


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
            *_rewards_of_training(line),
        ],
        "critique": [
            partial(check_reached, line, s.critique.backend),
            partial(_critic, line),
            partial(_fits, line, CRITIC, lambda: [critic_identity(line)]),
            lambda: Templates.find(line.templates, style(line)),
        ],
        "edit": [
            partial(check_editor, line),
            partial(_fits, line, EDITOR, lambda: editor(line).models[:1]),
            partial(check_counter_edits, line),
            *([partial(_scheduler, s.edit.scheduler)] if s.edit.scheduler else []),
        ],
        "build-pairs": [partial(check_counter_edits, line), *_rewards(line)],
        "train": [
            partial(own_settings, line),
            partial(_trained, line),
            *([*_rewards(line), *_rewards_of_training(line)] if is_online(s.train) else []),
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
            f"{installing.extra(package)}, or --engine local",
        )


def _model(line: Line, ref: str | None, setting: str, revision: str | None) -> None:
    check_models(line, [line.identity(required(ref, setting), revision)])


def _critic(line: Line) -> None:
    check_models(line, [_whole(critic_identity(line), CRITIC)])


def _whole(model: ModelIdentity, setting: str) -> ModelIdentity:
    """A model that transformers loads, which takes no single file."""
    if model.kind == "file":
        raise UsageError(
            f"{setting}: {model.ref} is a file, not a model folder",
            "give the folder with config.json that it belongs to",
        )
    return model


def _rewards(line: Line) -> list[Callable[[], None]]:
    """One check each, so that all that are wrong are told."""
    return [partial(_reward, line, name, ref) for name, ref in reward_models(line)]


def _reward(line: Line, name: str, ref: str) -> None:
    if name in reward_templates:
        check_reached(line, line.settings.score.backend)
    if name in APART:
        check_python("score.python", line.settings.score.python, "torch and transformers")
    found = _whole(reward_identity(line, name, ref)[0], REWARDS)
    check_models(line, [found])
    _fits(line, REWARDS, lambda: [found])


def _fits(line: Line, role: str, models: Callable[[], Sequence[ModelIdentity]]) -> None:
    """A critic, editor or reward beside the pictures of the run."""
    if line.settings.run.mix or (generates(line) and line.settings.generate.generator is None):
        return
    check_worlds(line, role, models(), generator(line).models if generates(line) else ())


def _rewards_of_training(line: Line) -> list[Callable[[], None]]:
    """Rewards beside the pictures that a training draws itself, whose model may not be the run's."""
    return [partial(_reward_of_training, line, name, ref) for name, ref in reward_models(line)]


def _reward_of_training(line: Line, name: str, ref: str) -> None:
    model = line.identity(*model_of(line, line.settings.train))
    refuse_worlds(line, REWARDS, [reward_identity(line, name, ref)[0]], [model])


def _trained(line: Line) -> None:
    """The model that is tuned, wherever it is named, and what measures likeness beside it."""
    train = line.settings.train
    model, revision = model_of(line, train)
    others = [_whole(line.identity(train.embedder), "train.embedder")] if train.embedder else []
    check_models(line, [line.identity(model, revision), *others])


def _scheduler(name: str) -> None:
    from rpo_cli.backends.loading import scheduler_named

    scheduler_named(name)

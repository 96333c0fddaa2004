"""Everything that can be checked before a model loads, all mistakes at once."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

from rpo_cli import installing
from rpo_cli.config import Settings
from rpo_cli.errors import MissingDependency, RpoError, SettingsError, UsageError
from rpo_cli.line.session import Line
from rpo_cli.line.steps import making, stages
from rpo_cli.line.training import own_settings
from rpo_cli.line.work.critics import (
    reward_identity,
    reward_models,
)
from rpo_cli.line.work.model_checks import (
    check_model,
    check_models,
    check_scheduler,
    refuse_worlds,
    whole_folder,
)
from rpo_cli.line.work.models import model_of
from rpo_cli.line.work.score import check_rewards
from rpo_cli.registry import entry, unused
from rpo_cli.scopes import CRITIC, EDITOR, GENERATOR, MODEL, REWARDS
from rpo_cli.train.composition import is_online

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


def preflight(line: Line, steps: Sequence[str], *, alone: bool = False) -> None:
    """Check names, folders, templates and schedulers of the steps ahead.

    Args:
        alone: without the steps before them, whose rows must be there: RUN may be misspelt.

    Raises:
        SettingsError: every mistake found.
        RpoError: the one problem there is that is no mistake (a hub that cannot be reached).
    """
    for text in unused():
        line.say(text)
    errors: list[RpoError] = []
    unnamed: tuple[str, ...] = ()
    try:
        require_models(line, steps)
    except NoModel as error:
        errors.append(error)
        unnamed = error.settings
    engine: Callable[[], Any] = partial(check_engine, line.settings.run.engine)
    for step in steps:
        for check in (engine, *_checks(line, step)):
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
    for spec in (spec for step in steps if alone for spec in making(step)):
        spec.requires(line)


def require_models(line: Line, steps: Sequence[str]) -> None:
    """Refuse steps whose models nobody has named: no model is assumed, the embedded ones neither.

    Raises:
        NoModel: tells which, and the three ways to name them.
    """
    s = line.settings
    lacking = [spec.unnamed(line) for spec in stages() if spec.command in steps]
    if "train" in steps and s.train.model is None and s.generate.generator is None:
        lacking.append(MODEL)
    missing = [name for name in lacking if name]
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


def _checks(line: Line, step: str) -> Sequence[Callable[[], Any]]:
    """Of a step of `run`, or of `rounds`, whose generator is what is trained."""
    s = line.settings
    if step == "train":
        return [
            partial(own_settings, line),
            partial(_trained, line),
            *([*check_rewards(line), *_rewards_of_training(line)] if is_online(s.train) else []),
        ]
    if step == "rounds":
        return [
            partial(
                check_model, line, s.train.model or s.generate.generator, "generate.generator", _branch(s)
            ),
            *([partial(check_scheduler, s.generate.scheduler)] if s.generate.scheduler else []),
            *_rewards_of_training(line),
        ]
    return [check for spec in making(step) for check in spec.checks(line)]


def _branch(settings: Settings) -> str | None:
    """Of the generator; a model that training names itself has none."""
    return settings.generate.revision if settings.train.model is None else None


def check_engine(name: str) -> None:
    """Refuse an engine whose package is not installed; imports nothing.

    Raises:
        MissingDependency: so it is.
    """
    package = entry("engines", name).needs
    if package and find_spec(package) is None:
        raise MissingDependency(
            f"run.engine: {name} needs the package {package}, which is not installed",
            f"{installing.extra(package)}, or --engine local",
        )


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
    others = [whole_folder(line.identity(train.embedder), "train.embedder")] if train.embedder else []
    check_models(line, [line.identity(model, revision), *others])

"""Everything that can be checked before a model loads, all mistakes at once."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from rpo_cli.config import Settings
from rpo_cli.errors import RpoError, SettingsError
from rpo_cli.exchange.prompts import read_prompts
from rpo_cli.line.context import Line
from rpo_cli.line.critics import check_reached, critic_identity, required
from rpo_cli.line.model_checks import check_editor, check_generator
from rpo_cli.line.training import own_settings
from rpo_cli.line.work import reward_identity, reward_models
from rpo_cli.templates import Templates


def preflight(line: Line, steps: Sequence[str]) -> None:
    """Check names, folders, templates and schedulers of the steps ahead.

    Raises:
        SettingsError: every mistake found.
        RpoError: the one problem there is that is no mistake (a hub that cannot be reached).
    """
    errors: list[RpoError] = []
    for step in steps:
        for check in _checks(line)[step]:
            try:
                check()
            except RpoError as error:
                errors.append(error)
    unique = {error.message: error for error in errors}
    if len(unique) == 1:
        raise next(iter(unique.values()))
    if unique:
        problems = [message.replace("\n", "\n  ") for message in unique]
        raise SettingsError("settings", problems, next(iter(unique.values())).hint)


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
            partial(check_reached, line),
            partial(critic_identity, line),
            partial(Templates.find, line.templates, s.critique.template),
        ],
        "edit": [
            partial(check_editor, line),
            *([partial(_scheduler, s.edit.scheduler)] if s.edit.scheduler else []),
        ],
        "build-pairs": [partial(_rewards, line)],
        "train": [
            partial(own_settings, line),
            *([partial(_model, line, s.train.model, "train.model", None)] if s.train.model else []),
        ],
    }


def _branch(settings: Settings) -> str | None:
    """Of the generator; a model that training names itself has none."""
    return settings.generate.revision if settings.train.model is None else None


def _model(line: Line, ref: str | None, setting: str, revision: str | None) -> None:
    line.identity(required(ref, setting), revision)


def _rewards(line: Line) -> None:
    for name, ref in reward_models(line):
        reward_identity(line, name, ref)


def _scheduler(name: str) -> None:
    from rpo_cli.backends.pipelines import scheduler_named

    scheduler_named(name)

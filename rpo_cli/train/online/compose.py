"""Settings → the online objective they ask for; all that contradicts the method is refused at the door."""

from dataclasses import fields, replace
from typing import Any

from rpo_cli import registry
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import SettingsError
from rpo_cli.train.composition import unnamed
from rpo_cli.train.objectives.online import OF_PAIRS, OnlineObjective

NAMES = frozenset(entry.name for entry in fields(OnlineObjective)) - {"name", "learning_rate"}
PARTS = {
    f"{section}.{name}": name
    for section, model in (("train", TrainSettings), ("online", OnlineSettings))
    for name in sorted(NAMES & set(model.model_fields))
}
HINT = "`rpo list objectives` shows what each method is made of and may change"


def is_online(settings: TrainSettings) -> bool:
    """Whether the method samples its own pictures."""
    return isinstance(registry.load("objectives", settings.method), OnlineObjective)


def composed_online(settings: TrainSettings, online: OnlineSettings) -> OnlineObjective:
    """The method's objective with the parts that the settings change.

    Raises:
        SettingsError: every setting that contradicts the method, or another setting.
    """
    objective: OnlineObjective = registry.load("objectives", settings.method)
    given = {path: value for path in PARTS if (value := _value(settings, online, path)) is not None}
    problems = [
        f"{path}: {value!r} contradicts {objective.name}, which has {getattr(objective, PARTS[path])!r}"
        for path, value in given.items()
        if PARTS[path] not in objective.open and value != getattr(objective, PARTS[path])
    ]
    problems += [
        f"train.{name}: {getattr(settings, name)!r} does not go with {objective.name}, which samples"
        for name, neutral in OF_PAIRS.items()
        if (getattr(settings, name) or None) != (neutral or None)  # 0 and False say nothing either
    ]
    opened = {PARTS[path]: value for path, value in given.items() if PARTS[path] in objective.open}
    changed = replace(objective, **opened)
    problems += _inconsistent(changed, settings, online)
    if problems:
        raise SettingsError("settings", problems, HINT)
    return changed


def _value(settings: TrainSettings, online: OnlineSettings, path: str) -> Any:
    section, _, name = path.partition(".")
    return getattr(settings if section == "train" else online, name)


def _inconsistent(objective: OnlineObjective, settings: TrainSettings, online: OnlineSettings) -> list[str]:
    """Settings that do not go together, or are missing."""
    unused_beta = settings.beta is not None and objective.default_beta is None
    too_many = online.steps is not None and (online.taught_steps or 0) > online.steps
    checks = (
        (
            not settings.rounds,
            f"train.rounds: {objective.name} samples, scores and learns in rounds; say how many (--rounds)",
        ),
        (unused_beta, f"train.beta: {objective.name} has none"),
        (too_many, f"online.taught_steps: {online.taught_steps} of {online.steps} denoising steps"),
        (
            objective.paired and settings.batch_size < 2,
            "train.batch_size: both pictures of a pair go through one forward pass; at least 2",
        ),
    )
    return [problem for wrong, problem in checks if wrong]


def settled_online(
    settings: TrainSettings, online: OnlineSettings
) -> tuple[TrainSettings, OnlineSettings, OnlineObjective]:
    """Both sections with the method's own numbers where none were given, for the record; the objective.

    Raises:
        SettingsError: see `composed_online`.
    """
    objective = composed_online(settings, online)
    own: dict[str, dict[str, Any]] = {"train": {}, "online": {}}
    for path, name in PARTS.items():
        section, _, setting = path.partition(".")
        if name in objective.open:
            own[section][setting] = getattr(objective, name)
    own["train"]["beta"] = settings.beta if settings.beta is not None else objective.default_beta
    settled = settings.model_copy(update=unnamed(settings) | own["train"])
    return settled, online.model_copy(update=own["online"]), objective

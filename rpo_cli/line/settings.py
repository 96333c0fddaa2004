"""Every setting of a run or of one of its trainings: its value, unit and where the value is from.

A setting that nobody has given may still have a number: its model's recipe or the method and family say it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rpo_cli.errors import RpoError, UsageError, nearest
from rpo_cli.line.session import Line
from rpo_cli.line.work import models
from rpo_cli.scopes import hangs_on, scope_of
from rpo_cli.settings_checks import AUTO, EARLIER, default_of, setting_names
from rpo_cli.units import UNITS


@dataclass(frozen=True)
class SettingValue:
    """One setting as the next command would have it.

    Attributes:
        value: None: none is given, and what stands in for it is not known here.
        origin: default, preset NAME, RUN/rpo.toml, the command that was told and when, model, or method.
        belongs_to: run, training, or command: how long an option for it counts.
        hangs_on: settings with whose change it falls.
    """

    name: str
    value: Any
    unit: str
    origin: str
    default: Any
    belongs_to: str
    hangs_on: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether somebody or something has said another value than the default."""
        return self.origin != "default"


def settings_of(line: Line, key: str | None = None) -> list[SettingValue]:
    """The settings in the order of the sections.

    Args:
        key: one setting, or a section; None: all.

    Raises:
        UsageError: no such setting.
    """
    names = [name for name in setting_names() if key in (None, name, name.partition(".")[0])]
    if not names:
        assert key is not None
        raise UsageError(
            f"{key}: no such setting{nearest(key, setting_names())}", f"rpo settings {line.store.url}"
        )
    values = line.settings.model_dump(mode="json")
    implied = dict(_implied(line, {name.partition(".")[0] for name in names}))
    found = []
    for name in names:
        section, _, field = name.partition(".")
        value, origin = values[section][field], line.resolved.origins[name]
        origin = line.resolved.commands.get(name, origin) if origin == EARLIER else origin
        if name in implied and (
            value in (None, AUTO) or (section == "train" and implied[name][0] != value)
        ):
            value, origin = implied[name]  # a preset's rate is for methods on pairs
        parents = tuple(dict.fromkeys(parent for parents in hangs_on(name) for parent in parents))
        unit = UNITS.get(name, "")
        found.append(SettingValue(name, value, unit, origin, default_of(name), scope_of(name), parents))
    return found


def _implied(line: Line, sections: set[str]) -> Iterator[tuple[str, tuple[Any, str]]]:
    """(name, (value, origin)) of settings that a model's recipe or the method decides."""
    for section, choose in (("generate", models.generator), ("edit", models.editor)):
        if section in sections:
            try:
                chosen = choose(line)
            except RpoError:
                continue  # no model is named, or it is not here
            yield from _of_recipe(section, chosen)
    if "train" in sections:
        yield from _of_method(line)


def _of_recipe(section: str, chosen: models.Chosen) -> Iterator[tuple[str, tuple[Any, str]]]:
    yield f"{section}.backend", (chosen.name, "model")
    for key in ("steps", "guidance", "image_guidance"):
        value = getattr(chosen.recipe, key)
        if value is not None:
            yield f"{section}.{key}", (value, f"model ({chosen.recipe.source})")


def _of_method(line: Line) -> Iterator[tuple[str, tuple[Any, str]]]:
    from rpo_cli.line.training import origins_of, own_settings
    from rpo_cli.train.composition import is_online, settled
    from rpo_cli.train.objectives.online import settled_online

    try:
        own = own_settings(line)
        online = is_online(own)
        found = settled_online(own, line.settings.online)[0] if online else settled(own)[0]
    except RpoError:
        return  # settings that contradict each other are told by what uses them
    sources = {} if online else origins_of(line, line.settings.train)
    for key, value in found.model_dump(mode="json").items():
        if value is not None:
            yield f"train.{key}", (value, sources.get(key, f"method ({found.method})"))

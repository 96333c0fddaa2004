"""What is said of settings to whoever runs a command: what does not count, and what counts from earlier."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError, nearest
from rpo_cli.scopes import Values, scope_of
from rpo_cli.settings_checks import EARLIER, RUN_FILE, Origins, setting_names

ALL = "all"


def fell(origin: str, hung_on: str, before: str, after: str, names: Sequence[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"not used: {', '.join(names)} ({origin}), which {verb} for {hung_on} {before}, not {after}"


def other_preset(chosen: str, earlier: str | None, asked: str | None) -> Iterator[str]:
    """A file that names another preset than the one that earlier commands ran with."""
    if asked is None and earlier is not None and earlier != chosen:
        yield f"preset {chosen}, as a file says; earlier commands had {earlier}"


def expanded(unset: Sequence[str]) -> Iterator[str]:
    """The names of settings that are taken back: of a section, or of "all", every one.

    Raises:
        UsageError: no such setting.
    """
    for name in unset:
        names = [each for each in setting_names() if name in (each, each.partition(".")[0], ALL)]
        if not names:
            close = nearest(name, setting_names())
            raise UsageError(f"--unset {name}: no such setting{close}", "`rpo settings RUN` lists them")
        yield from names


def taken_back(unset: Sequence[str], run: Values, training: Values, origins: Origins) -> Iterator[str]:
    """A word on a setting that nobody was told, where one alone is taken back."""
    for name in unset if len(unset) == 1 else ():
        if name not in run and name not in training:
            where = origins.get(name, "default")
            yield f"--unset {name}: no earlier command was given it; it is from: {where}"


def overridden(own: Values, values: Values, origins: Origins, given: Mapping[str, str]) -> Iterator[str]:
    """Lines of rpo.toml over which an earlier option stands."""
    for name, value in own.items():
        if origins.get(name) == EARLIER and values[name] != value:
            yield (
                f"{name} = {text_of(value)} ({RUN_FILE}) does not count: {text_of(values[name])} stands "
                f"since {given[name]}; --unset {name} takes that back"
            )


def unused(options: Values, uses: Collection[str]) -> Iterator[str]:
    names = [
        name for name in options if name.partition(".")[0] not in uses and scope_of(name) == "training"
    ]
    if names:
        yield f"{', '.join(names)}: not used by this command and not kept; give it to `rpo train`"


def in_force(values: Values, given: Mapping[str, str], uses: Collection[str]) -> Iterator[str]:
    """One line: what earlier commands were told and this one keeps to."""
    told: dict[str, list[str]] = {}
    for name, when in sorted(given.items()):
        if name.partition(".")[0] in uses:
            told.setdefault(when, []).append(f"{name} = {text_of(values[name])}")
    if told:
        yield "as told earlier: " + "; ".join(f"{', '.join(said)} ({when})" for when, said in told.items())


def text_of(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return " ".join(map(text_of, value)) or "none"
    if isinstance(value, dict):
        return " ".join(f"{key}={text_of(each)}" for key, each in value.items()) or "none"
    home = str(Path.cwd()) + "/"
    return str(value).removeprefix(home)

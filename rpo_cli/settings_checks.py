"""Every mistake of every source of the settings, told at once with its place; relative paths made absolute.

An option is relative to where the command was typed, a line of a file to the file's folder. In run.json
what lies inside the run is kept relative to it ("./prompts.txt"), so that a run can be moved; all else is
absolute.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache, partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from rpo_cli import registry
from rpo_cli.config import Settings
from rpo_cli.errors import SettingsError, nearest
from rpo_cli.scopes import TRUSTING

FILES = frozenset({"prompts.file", "prompts.leave_out", "train.dataset"})
# a local folder where there is one of that name, else a hub id or a short name
MODELS = frozenset(
    {"generate.generator", "generate.lora", "generate.denoiser", "critique.critic", "edit.editor"}
    | {"edit.controlnet", "train.model", "train.embedder", "score.rewards"}
)
PROGRAMS = frozenset({"score.python", "critique.server_python"})
INSIDE = "./"
DEFAULT = "default"  # as a value: the setting's own default


def anchored(values: Mapping[str, Any], base: Path) -> dict[str, Any]:
    """The settings with every path that is relative to `base` made absolute."""
    return {name: _each(name, value, partial(_absolute, name, base)) for name, value in values.items()}


def portable(values: Mapping[str, Any], run: Path | None) -> dict[str, Any]:
    """The settings as run.json keeps them; `anchored` with the run's folder turns them back."""
    if run is None:  # an object store
        return dict(values)
    root = os.path.abspath(run)
    return {name: _each(name, value, lambda text: _inside(text, root)) for name, value in values.items()}


def astray(values: Mapping[str, Any], origin: str) -> Iterator[str]:
    """Names of models that would be read as folders of where the command happens to be typed."""
    for name in sorted(MODELS & values.keys()):
        for text in _texts(values[name]):
            ref = text.partition("=")[2] if name == "score.rewards" else text
            if ref and not os.path.isabs(ref) and _is_there(Path(ref)):
                yield (
                    f"{name}: '{ref}' is a folder here, but not beside {origin}, which names it: "
                    "write an absolute path, or run the command elsewhere"
                )


def _each(name: str, value: Any, change: Callable[[str], str]) -> Any:
    if name not in FILES | MODELS | PROGRAMS or value in (None, DEFAULT):
        return value
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value):
        if name in FILES:
            return type(value)(map(change, value))
        parts = [item.partition("=") for item in value]
        return type(value)(f"{key}{equals}{change(ref) if equals else ref}" for key, equals, ref in parts)
    return value


def _texts(value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    return [text for text in texts if isinstance(text, str)]


def _absolute(name: str, base: Path, text: str) -> str:
    if not text or os.path.isabs(text):
        return text
    place = os.path.normpath(os.path.join(os.path.abspath(base), text))
    spelt = text.startswith((INSIDE, "../"))
    if name in FILES or spelt or (name in MODELS and _is_there(Path(place))):
        return place
    return place if name in PROGRAMS and "/" in text else text


def _inside(text: str, root: str) -> str:
    return INSIDE + os.path.relpath(text, root) if text.startswith(root + os.sep) else text


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, forbidden, or with a zero byte
        return False


Origins = dict[str, str]
RUN_FILE = "RUN/rpo.toml"
EARLIER = "earlier option"
# settings whose value is a name from the registry → its kind
NAMED = {
    "run.engine": "engines",
    "critique.backend": "critics",
    "generate.backend": "generators",
    "edit.backend": "editors",
    "score.backend": "critics",
    "train.method": "objectives",
}
SERVERS = {"critique": "critic_url", "edit": "editor_url"}  # section → the setting that names servers
AUTO = "auto"  # a backend that the model's own files choose
HINT = "`rpo settings RUN` shows every setting with its limits; `rpo list` shows the names"


@cache
def setting_names() -> list[str]:
    """Every setting as "section.key"."""
    return [f"{section}.{key}" for section in Settings.model_fields for key in _keys(section)]


def default_of(name: str) -> Any:
    """The default of a setting; None for a name that is none."""
    section, _, key = name.partition(".")
    return _keys(section)[key].default if name in setting_names() else None


def _keys(section: str) -> dict[str, FieldInfo]:
    fields: Any = Settings.model_fields[section].annotation
    found: dict[str, FieldInfo] = fields.model_fields
    return found


def checked(
    values: Mapping[str, Any], origins: Origins, uses: Collection[str], problems: Sequence[str] = ()
) -> tuple[Settings, list[str]]:
    """The settings, and what to say of names that only sections out of use name.

    Args:
        uses: sections that the command works with.
        problems: found before, to be told with the others.

    Raises:
        SettingsError: every problem of every source.
    """
    known = {name: value for name, value in values.items() if name in setting_names()}
    found = [*problems, *(_unknown(name, origins[name]) for name in values if name not in known)]
    found += _untrusted(origins)
    said: list[str] = []
    for name, value in known.items():
        wrong = list(_wrong_names(name, value, origins))
        idle = name.partition(".")[0] not in uses and origins[name] != "option"
        (said if idle else found).extend(wrong)
    nested: dict[str, dict[str, Any]] = {}
    for name, value in known.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        found += [_problem(item, origins) for item in error.errors()]
    if found:
        raise SettingsError("settings", sorted(set(found)), HINT)
    return settings, [f"{text}; not used here" for text in said]


def _untrusted(origins: Origins) -> Iterator[str]:
    """Settings that must not come from the run directory, and a key for a host named elsewhere."""
    for name in sorted(TRUSTING & origins.keys()):
        if origins[name] in (RUN_FILE, EARLIER):
            yield f"{name}: says whom to trust, so it counts only as an option or in --config ({RUN_FILE})"
    for section, name in SERVERS.items():
        url, key = origins.get(f"{section}.{name}"), origins.get(f"{section}.key_variable")
        if key is not None and url is not None and url != key:
            yield (
                f"{section}.key_variable: the key is for the servers that are named beside it ({key}), "
                f"{section}.{name} is from elsewhere ({url})"
            )


def _unknown(name: str, origin: str) -> str:
    section, _, key = name.partition(".")
    if section in Settings.model_fields and not key:
        return f"{section}: is a section, write [{section}] above its settings ({origin})"
    if section not in Settings.model_fields:
        close = nearest(section, list(Settings.model_fields))
        return f"{name}: no such setting; '{section}' is no section{close} ({origin})"
    return f"{name}: no such setting{_meant(section, key)} ({origin})"


def _meant(section: str, key: str) -> str:
    """The likeliest name: a like key of the section, else the key itself in another section."""
    close = get_close_matches(key, list(_keys(section)), n=1)
    elsewhere = [name for name in setting_names() if name.partition(".")[2] == key]
    found = [f"{section}.{close[0]}"] if close else elsewhere
    return f"; did you mean '{found[0]}'?" if found else ""


def _problem(item: Mapping[str, Any], origins: Origins) -> str:
    name = ".".join(str(part) for part in item["loc"][:2])
    message = item["msg"].removeprefix("Value error, ")
    origin = origins.get(name, "default")
    return f"{name}: {message[:1].lower()}{message[1:]}, not {item['input']!r} ({origin})"


def _wrong_names(name: str, value: Any, origins: Origins) -> Iterator[str]:
    """Values that should be names of the registry and are not."""
    if name == "score.rewards" and isinstance(value, (list, tuple)):
        names, kind = [str(item).partition("=")[0] for item in value], "rewards"
    elif name == "score.functions" and isinstance(value, (list, tuple)):
        given = {str(item).partition("=")[0] for item in value}
        for taken in sorted(given & registry.names("rewards").keys()):
            yield f"{name}: '{taken}' is the name of a reward; choose another ({origins[name]})"
        return
    elif name in NAMED and isinstance(value, str):
        names, kind = [value], NAMED[name]
    else:
        return
    known = list(registry.names(kind))
    for each in names:
        if each not in known and not (each == AUTO and name in ("generate.backend", "edit.backend")):
            close = nearest(each, known)
            yield f"{name}: '{each}' is not one of: {', '.join(known)}{close} ({origins[name]})"

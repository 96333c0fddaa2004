"""Settings from all sources, layered, with the origin of each value, and every mistake told at once.

Order, later wins: default < preset < RUN/rpo.toml < options of earlier commands on the run (from its
run.json: they describe the rows that are there) < --config < option. The origin of each value is kept
and written into run.json.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rpo_cli import registry
from rpo_cli.config import Settings
from rpo_cli.errors import SettingsError, UsageError, nearest

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
# settings that say which program, host or key to trust: a run directory is data and cannot name them
SERVERS = {"critique": "critic_url", "edit": "editor_url"}  # section → the setting that names servers
IMPLIED = ("", "default", "preset")  # origins of critique.backend that a --critic-url overrules
TRUSTING = frozenset(
    f"critique.{key}" for key in ("critic_url", "key_variable", "server_python", "server_args")
) | {"run.accept_license", "score.functions", "score.python", "edit.editor_url", "edit.key_variable"}
AUTO = "auto"  # a backend that the model's own files choose
# model → settings of a preset that are meant for its own model, and for no other that is given instead
SUITED = {
    "generate.generator": ("backend", "steps", "guidance", "scheduler"),
    "edit.editor": ("backend", "steps", "guidance", "image_guidance", "scheduler"),
}


@dataclass(frozen=True)
class Resolved:
    """Settings with the origin of every value: "default", "preset shapes", a file, "option", ...

    `notes` are sentences of the preset that the dataset card must carry.
    """

    settings: Settings
    origins: Origins
    preset: str
    notes: tuple[str, ...] = ()

    def told(self, *, earlier: bool = True) -> dict[str, Any]:
        """What commands were told by option or --config, as dotted names: the next command keeps to it.

        Args:
            earlier: also what commands before this one were told.
        """
        kept = ("default", f"preset {self.preset}", RUN_FILE, *(() if earlier else (EARLIER,)))
        values = self.settings.model_dump(mode="json")
        told = [
            name.split(".")
            for name, origin in self.origins.items()
            if origin not in kept and name not in TRUSTING
        ]
        return {f"{section}.{key}": values[section][key] for section, key in told}


def resolve(
    options: Mapping[str, Any],
    *,
    preset: str | None = None,
    run_file: Path | None = None,
    config_file: Path | None = None,
    earlier: Mapping[str, Any] | None = None,
    earlier_preset: str | None = None,
) -> Resolved:
    """Layer all sources and check the result once.

    Args:
        options: dotted name → value; None means not given.
        earlier: dotted name → value of options that earlier commands on this run were given.
        earlier_preset: the preset those commands ran with; counts when nothing else names one.
        preset: name of a preset; a `preset = "..."` line in a file counts too; "shapes" at last.

    Raises:
        SettingsError: every wrong key and value of every source.
        UsageError: a file that cannot be read, or an unknown preset.
    """
    own = read_toml(run_file) if run_file else {}
    config = read_toml(config_file) if config_file else {}
    named = (preset, config.pop("preset", None), own.pop("preset", None), earlier_preset, "shapes")
    chosen = str(next(name for name in named if name is not None))
    defaults = dict(registry.load("presets", chosen)())
    notes = tuple(defaults.pop("notes", ()))
    layers = [
        (f"preset {chosen}", _flat(defaults)),
        (RUN_FILE, _flat(own)),
        (EARLIER, dict(earlier or {})),
        (str(config_file), _flat(config)),
        ("option", {name: value for name, value in options.items() if value is not None}),
    ]
    values = {name: value for _, layer in layers for name, value in layer.items()}
    origins = {name: origin for origin, layer in layers for name in layer}
    for section, url in SERVERS.items():
        backend = f"{section}.backend"
        if f"{section}.{url}" in values and origins.get(backend, "").partition(" ")[0] in IMPLIED:
            values[backend], origins[backend] = "openai", f"{section}.{url}"
    for name in _unsuited(values, origins, layers[0][1]):
        del values[name], origins[name]
    settings = _validate(values, origins)
    return Resolved(settings, dict.fromkeys(setting_names(), "default") | origins, chosen, notes)


def _unsuited(values: Mapping[str, Any], origins: Origins, preset: Mapping[str, Any]) -> list[str]:
    """Settings that a preset made for its own model, where another model is used."""
    others = [model for model in SUITED if model in preset and values[model] != preset[model]]
    named = [f"{model.partition('.')[0]}.{key}" for model in others for key in SUITED[model]]
    return [name for name in named if origins.get(name, "").startswith("preset ")]


def read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", "check the path given to --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}", "`rpo init DIR` writes a valid one") from error


def setting_names() -> list[str]:
    """Every setting as "section.key"."""
    return [f"{section}.{key}" for section in Settings.model_fields for key in _keys(section)]


def _keys(section: str) -> list[str]:
    fields: Any = Settings.model_fields[section].annotation
    return list(fields.model_fields)


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_dotted(table))


def _dotted(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{section}.{key}", inner) for key, inner in value.items())
        else:
            yield section, value


def _validate(values: Mapping[str, Any], origins: Origins) -> Settings:
    """The settings, or every problem of every source in one error."""
    known = {name: value for name, value in values.items() if name in setting_names()}
    problems = [_unknown(name, origins[name]) for name in values if name not in known]
    problems += _untrusted(origins)
    problems += [problem for name, value in known.items() for problem in _wrong_names(name, value, origins)]
    nested: dict[str, dict[str, Any]] = {}
    for name, value in known.items():
        section, _, key = name.partition(".")
        nested.setdefault(section, {})[key] = value
    try:
        settings = Settings.model_validate(nested)
    except ValidationError as error:
        problems += [_problem(item, origins) for item in error.errors()]
    if problems:
        hint = "`rpo init DIR` writes every setting with its limits; `rpo list` shows the names"
        raise SettingsError("settings", sorted(set(problems)), hint)
    return settings


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
    close = get_close_matches(key, _keys(section), n=1)
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

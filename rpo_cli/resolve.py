"""Settings from all sources, layered, with the origin of each value, and what is said of them."""

import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rpo_cli import registry
from rpo_cli.config import Settings
from rpo_cli.errors import UsageError, nearest
from rpo_cli.recipes.training import kin
from rpo_cli.scopes import CRITIC, HANGS, METHOD, NAME, Scope, Values, misfits, scope_of
from rpo_cli.settings_checks import (
    DEFAULT,
    EARLIER,
    RUN_FILE,
    SERVERS,
    Origins,
    anchored,
    astray,
    checked,
    default_of,
    setting_names,
)

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


NO_PRESET = "none"
SECTIONS = tuple(Settings.model_fields)
IMPLIED = ("", "default", "preset")  # origins of critique.backend that a --critic-url overrules
PARENTS = {name for names in HANGS for name in names}


@dataclass(frozen=True)
class Memory:
    """What run.json remembers that earlier commands were told: of the run, or of one training.

    Attributes:
        options: dotted name → value.
        commands: dotted name → which command was given it, and when.
        beside: the settings that others hang on, as they were then.
        origins: where those were from; what a preset names is the same model wherever it lies now.
    """

    options: Values = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    beside: Values = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Earlier:
    """What run.json knows of the commands before this one; paths are absolute."""

    run: Memory = Memory()
    trainings: Mapping[str, Memory] = field(default_factory=dict)
    preset: str | None = None


@dataclass(frozen=True)
class Resolved:
    """Settings with the origin of every value: "default", "preset shapes", a file, "option", ...

    Attributes:
        notes: sentences of the preset that the dataset card must carry.
        commands: of values with the origin `EARLIER`: which command was given them, and when.
        earlier: what was read of the commands before.
        remarks: lines for whoever runs the command: what does not count, and what counts from earlier.
    """

    settings: Settings
    origins: Origins
    preset: str
    notes: tuple[str, ...] = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    earlier: Earlier = Earlier()
    remarks: tuple[str, ...] = ()

    def options(self, scope: Scope = "run", *, earlier: bool = True) -> dict[str, Any]:
        """What commands were told by option or --config, as dotted names: the next command keeps to it.

        Args:
            scope: whose settings.
            earlier: also what commands before this one were told.
        """
        kept = ("default", f"preset {self.preset}", RUN_FILE, *(() if earlier else (EARLIER,)))
        values = self.settings.model_dump(mode="json")
        told = [
            name.split(".")
            for name, origin in self.origins.items()
            if origin not in kept and scope_of(name) == scope
        ]
        return {f"{section}.{key}": values[section][key] for section, key in told}


@dataclass(frozen=True)
class _Layer:
    origin: str
    values: Values
    beside: Values | None = None  # what its values hang on, where that was another command's


def resolve(
    options: Mapping[str, Any],
    *,
    preset: str | None = None,
    run_file: Path | None = None,
    config_file: Path | None = None,
    earlier: Earlier | None = None,
    unset: Sequence[str] = (),
    uses: Collection[str] = SECTIONS,
) -> Resolved:
    """Layer all sources and check the result once.

    Args:
        options: dotted name → value; None means not given.
        preset: name of one; a `preset = "..."` line in a file counts too, then that of earlier commands.
        earlier: what earlier commands on this run were told.
        unset: settings, sections or "all", for which what earlier commands were told is taken back.
        uses: sections that the command works with: names of a registry that only others name are told, not
            refused.

    Raises:
        SettingsError: every wrong key and value of every source.
        UsageError: a file that cannot be read, or an unknown preset.
    """
    earlier = earlier or Earlier()
    unset = list(expanded(unset))
    own = read_toml(run_file) if run_file else {}
    config = read_toml(config_file) if config_file else {}
    named = (preset, config.pop("preset", None), own.pop("preset", None), earlier.preset, NO_PRESET)
    chosen = str(next(name for name in named if name is not None))
    defaults = dict(registry.load("presets", chosen)())
    notes = tuple(defaults.pop("notes", ()))
    here = anchored({name: value for name, value in options.items() if value is not None}, Path())
    files = [
        _Layer(f"preset {chosen}", _flat(defaults)),
        _Layer(RUN_FILE, anchored(_flat(own), run_file.parent) if run_file else {}),
    ]
    asked = [
        _Layer(str(config_file), anchored(_flat(config), config_file.parent) if config_file else {}),
        _Layer("option", here),
    ]
    name = next(
        (layer.values[NAME] for layer in (*reversed(asked), *reversed(files)) if NAME in layer.values), None
    )
    training = earlier.trainings.get(str(name or default_of(NAME)), Memory())
    before = [
        _Layer(EARLIER, _without(told.options, unset), _beside(told, files[0]))
        for told in (earlier.run, training)
    ]
    layers = [*files, *before, *asked]
    values, origins, fallen = _standing(layers, uses)
    _serve(values, origins)
    settings, unknown = checked(values, origins, uses, list(_astray(values, origins) if uses else ()))
    known = {**earlier.run.commands, **training.commands}
    given = {name: known.get(name, EARLIER) for name, origin in origins.items() if origin == EARLIER}
    said = [
        *fallen,
        *other_preset(chosen, earlier.preset, preset),
        *taken_back(unset, earlier.run.options, training.options, origins),
        *overridden(files[1].values, values, origins, given),
        *unused(here, uses),
        *unknown,
        *in_force(values, given, uses),
    ]
    all_origins = dict.fromkeys(setting_names(), "default") | origins
    return Resolved(settings, all_origins, chosen, notes, given, earlier, tuple(said))


def _standing(layers: Sequence[_Layer], uses: Collection[str]) -> tuple[dict[str, Any], Origins, list[str]]:
    """Of each setting the highest value that fits what it hangs on, its origin, and what is to be said."""
    now = {name: _highest(layers, name) for name in PARENTS}
    if _highest(layers, "critique.critic_url") and not _above_preset(layers, CRITIC):
        now[CRITIC] = "the server's"
    values: dict[str, Any] = {}
    origins: Origins = {}
    fallen: dict[tuple[str, str, str, str], list[str]] = {}
    for name in dict.fromkeys(name for layer in layers for name in layer.values):
        for place in reversed(range(len(layers))):
            layer = layers[place]
            if name not in layer.values:
                continue
            value = layer.values[name]
            wrong = next(_misfits(name, value, layers[: place + 1], now), None)
            if wrong is None:
                values[name] = default_of(name) if value == DEFAULT else value
                origins[name] = layer.origin
                break
            if name.partition(".")[0] in uses:
                hung_on, was, now_is = map(text_of, wrong)
                fallen.setdefault((layer.origin, hung_on, was, now_is), []).append(
                    f"{name} = {text_of(value)}"
                )
    return values, origins, [fell(*why, names) for why, names in fallen.items()]


def _misfits(name: str, value: Any, below: Sequence[_Layer], now: Values) -> Iterator[tuple[str, Any, Any]]:
    layer = below[-1]
    if name == "critique.backend" and layer.origin != EARLIER:
        return  # a preset's server, say, serves any critic
    then = {parent: _highest(below, parent) for parent in PARENTS} | dict(layer.beside or {})
    if name == "train.beta" and layer.origin.startswith("preset "):
        # a preset's beta is one of DPO's kind: it counts for methods that have none of their own published
        then, now = ({**these, METHOD: kin(these[METHOD])} for these in (then, now))
    yield from misfits(name, value, then, now)


def _highest(layers: Sequence[_Layer], name: str) -> Any:
    found = next((layer.values[name] for layer in reversed(layers) if name in layer.values), DEFAULT)
    return default_of(name) if found == DEFAULT else found


def _above_preset(layers: Sequence[_Layer], name: str) -> bool:
    return any(name in layer.values for layer in layers[1:])


def _serve(values: dict[str, Any], origins: Origins) -> None:
    """A critic or editor whose server is named is asked there, unless its backend is named too."""
    for section, url in SERVERS.items():
        backend = f"{section}.backend"
        if f"{section}.{url}" in values and origins.get(backend, "").partition(" ")[0] in IMPLIED:
            values[backend], origins[backend] = "openai", f"{section}.{url}"


def _astray(values: Values, origins: Origins) -> Iterator[str]:
    for name, value in values.items():
        if origins[name] != "option":
            yield from astray({name: value}, origins[name])


def _beside(told: Memory, preset: _Layer) -> dict[str, Any]:
    same = {name for name, origin in told.origins.items() if origin == preset.origin}
    named = {name: preset.values[name] for name in same & preset.values.keys()}
    return {**told.beside, **named}


def _without(options: Values, unset: Sequence[str]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in unset}


def read_toml(path: Path) -> dict[str, Any]:
    """Raises UsageError for a file that is not there, or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file", "check the path given to --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML: {error}", "`rpo init DIR` writes a valid one") from error


def _flat(table: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_dotted(table))


def _dotted(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for section, value in table.items():
        if isinstance(value, Mapping):
            yield from ((f"{section}.{key}", inner) for key, inner in value.items())
        else:
            yield section, value

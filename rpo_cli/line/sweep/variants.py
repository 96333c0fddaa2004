"""A sweep: what is asked for, which trainings that makes, what they are called, what run.json keeps of it.

run.json "sweeps": name → what was asked for under that name. Nothing of it is a setting of the run.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rpo_cli.errors import UsageError, nearest
from rpo_cli.line.evaluation.models import LABEL
from rpo_cli.line.formats import check_format, current
from rpo_cli.line.session import Line
from rpo_cli.manifest import SWEEPS, Manifest
from rpo_cli.records import FORMAT_VERSION
from rpo_cli.resolve import text_of
from rpo_cli.settings_checks import anchored, portable
from rpo_cli.store import Store
from rpo_cli.train.run import SCHEDULE_ONLY
from rpo_cli.version import __version__

SEEDS = 3
FINISHED, BEGUN, MISSING = "finished", "begun", "missing"
ITSELF = {"train.name", "train.method", "train.seed"}  # that the sweep gives each training
# what is asked for → the setting whose paths are treated alike
PATHS = {"prompts": "prompts.file", "rewards": "score.rewards"}
# what is asked for → its option
OPTIONS = {
    "methods": "--method",
    "betas": "--beta",
    "learning_rates": "--learning-rate",
    "rewards": "--reward",
    "options": "--set",
}
Given = Mapping[str, Any]


class Request(BaseModel):
    """What a sweep is asked for; paths are absolute.

    Attributes:
        betas, learning_rates: empty: each method has its own.
        options: settings of every training, by dotted name.
        prompts and what follows: of the evaluation, as `evaluate` takes it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    methods: tuple[str, ...] = Field(min_length=1)
    betas: tuple[float, ...] = ()
    learning_rates: tuple[float, ...] = ()
    seeds: int = Field(default=SEEDS, ge=1, le=100)
    options: dict[str, Any] = {}
    prompts: str | None = None
    column: str | None = None
    limit: int | None = Field(default=None, ge=1)
    images_per_prompt: int = Field(default=4, ge=1, le=1000)
    guidance: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    rewards: tuple[str, ...] = ()
    measure: str | None = None
    allow_training_prompts: bool = False


@dataclass(frozen=True)
class Variant:
    """A place of the grid: trained once a seed, and one line of the evaluation.

    Attributes:
        beta, learning_rate: None: the method's own.
    """

    label: str
    method: str
    beta: float | None = None
    learning_rate: float | None = None

    @property
    def options(self) -> dict[str, Any]:
        named = {"train.beta": self.beta, "train.learning_rate": self.learning_rate}
        return {"train.method": self.method} | {k: v for k, v in named.items() if v is not None}


@dataclass(frozen=True)
class Training:
    """One training of a sweep: a variant and a seed."""

    name: str
    variant: Variant
    seed: int


# --- the grid ------------------------------------------------------------------------------------------


def variants(asked: Request) -> list[Variant]:
    """Method x beta x learning rate, each once; only what was given is an axis and part of the label."""
    places = product(
        dict.fromkeys(asked.methods),
        dict.fromkeys(asked.betas) or (None,),
        dict.fromkeys(asked.learning_rates) or (None,),
    )
    return [Variant(_label(*place), *place) for place in places]


def _label(method: str, beta: float | None, rate: float | None) -> str:
    parts = [method]
    parts += [] if beta is None else [f"b{number(beta)}"]
    parts += [] if rate is None else [f"lr{number(rate)}"]
    return "-".join(parts)


def number(value: float) -> str:
    """A number as names have it, and no two alike: "2000", "0.5", "1e-5"."""
    short = f"{value:g}"
    text = short if float(short) == value else repr(value)
    return text.replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def trainings(name: str, grid: Iterable[Variant], seeds: Iterable[int]) -> list[Training]:
    """All of them, seed by seed, so that a comparison of few seeds could be made early.

    Raises:
        UsageError: a name too long for a folder.
    """
    kept = list(grid)
    found = [Training(f"{name}-{v.label}-s{seed}", v, seed) for seed in seeds for v in kept]
    for training in found:
        if not LABEL.fullmatch(training.name):
            raise UsageError(
                f"'{training.name}' is no name of a training: letters, digits, dots, dashes and "
                "underscores, at most 64",
                "--name with a shorter name for the sweep",
            )
    return found


def state(store: Store, name: str) -> str:
    """How far a training of that name is."""
    if store.files.exists(f"train/{name}/done.json"):
        return FINISHED
    return BEGUN if store.files.exists(f"train/{name}/settings.json") else MISSING


# --- what run.json keeps -------------------------------------------------------------------------------


def earlier_request(line: Line, name: str) -> dict[str, Any]:
    """What earlier commands were asked of the sweep, paths absolute; {} for a new one."""
    found = line.store.read_manifest().get(SWEEPS, {}).get(name, {})
    return _paths(found, lambda values: anchored(values, line.store.files.local or Path()))


def request_of(line: Line, name: str, given: Given, unset: Sequence[str] = ()) -> Request:
    """What is asked for: of this command, and for the rest of those before it, which is told in one line.

    Args:
        given: fields of `Asked`; None: not given.
        unset: options and settings for which what earlier commands were told is taken back.

    Raises:
        UsageError: no method, a number out of its limits, or other settings for a sweep that has begun.
    """
    known = earlier_request(line, name)
    before = _without(known, unset)
    now = _paths(
        {key: value for key, value in given.items() if value is not None},
        lambda values: anchored(values, Path()),
    )
    options = {**before.get("options", {}), **now.get("options", {})}
    merged = {**before, **now, **({"options": options} if options else {})}
    if not merged.get("methods"):
        raise _unnamed(line, name)
    try:
        asked = Request.model_validate(merged)
    except ValidationError as error:
        raise _wrong(error, before, now) from error
    if before:
        _refuse_changed(line, name, known.get("options", {}), options, asked)
        if kept := list(_kept(before, now)):
            line.say(f"sweep '{name}' goes on with what it was told: {'; '.join(kept)}")
    return asked


def _without(known: Given, unset: Sequence[str]) -> dict[str, Any]:
    """What earlier commands were told, less what is taken back."""
    left = {**known, "options": dict(known.get("options", {}))}
    keys = {OPTIONS.get(key, _option(key)).removeprefix("--"): key for key in known if key != "options"}
    for word in unset:
        if word in keys:
            left.pop(keys[word], None)
        elif word in left["options"]:
            del left["options"][word]
        else:
            there = [*keys, *left["options"]]
            raise UsageError(
                f"--unset {word}: this sweep was told no such thing{nearest(word, there)}",
                f"it was told: {', '.join(there) or 'nothing'}",
            )
    return left if left["options"] else {key: value for key, value in left.items() if key != "options"}


def _kept(before: Given, now: Given) -> Iterator[str]:
    """What counts from earlier commands."""
    for key in before:
        if key not in now and key != "options":
            value = before[key]
            told = ",".join(map(_text, value)) if isinstance(value, list) else _text(value)
            yield f"{OPTIONS.get(key, _option(key))} {told}"
    for name, value in before.get("options", {}).items():
        if name not in now.get("options", {}):
            yield f"{name} {text_of(value)}"


def _text(value: Any) -> str:
    return number(value) if isinstance(value, float) else text_of(value)


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _unnamed(line: Line, name: str) -> UsageError:
    known = list(line.store.read_manifest().get(SWEEPS, {}))
    there = f" (there are: {', '.join(known)})" if known else ""
    return UsageError(
        f"sweep '{name}': no method is named, now or by an earlier command{nearest(name, known)}{there}",
        "--method dpo,kto names them; `rpo list objectives`",
    )


def _wrong(error: ValidationError, before: Given, now: Given) -> UsageError:
    """The first wrong value, by the option that gave it."""
    item = error.errors()[0]
    key = str(item["loc"][0])
    option = OPTIONS.get(key, _option(key))
    where = option if key in now else f"run.json, sweeps: {key}"
    said = item["msg"][:1].lower() + item["msg"][1:]
    hint = "rpo sweep --help-all" if key in now or key not in before else f"give it again: {option}"
    return UsageError(f"{where}: {said}, not {item['input']!r}", hint)


def _refuse_changed(line: Line, name: str, before: Given, now: Given, asked: Request) -> None:
    """Trainings of other settings cannot go on under their names, and would be no sweep together."""
    changed = [
        f"{key} {text_of(before.get(key))}, not {text_of(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
        and key.partition(".")[2] not in SCHEDULE_ONLY - {"model", "seed"}
    ]
    first = line.settings.train.seed or 0
    begun = [
        each.name
        for each in trainings(name, variants(asked), range(first, first + asked.seeds))
        if state(line.store, each.name) != MISSING
    ]
    if changed and begun:
        raise UsageError(
            f"sweep '{name}' has begun with {', '.join(changed)}",
            f"give this one a name of its own with --name, or delete {line.store.path('train')}/{name}-*",
        )


def remember(line: Line, name: str, asked: Request) -> None:
    """Keep what was asked for, so that `rpo sweep RUN --name NAME` goes on."""
    told = asked.model_dump(mode="json", exclude_defaults=True)
    kept = _paths(told, lambda values: portable(values, line.store.files.local))
    line.store.update_manifest(partial(_remembered, line.store, name, kept))


def _remembered(store: Store, name: str, told: Given, manifest: Manifest) -> Manifest:
    check_format(store, manifest)
    manifest = current(store, manifest)
    sweeps = {**manifest.get(SWEEPS, {}), name: dict(told)}
    return {**manifest, "format": FORMAT_VERSION, "rpo": __version__, SWEEPS: sweeps}


def _paths(told: Given, change: Callable[[Given], dict[str, Any]]) -> dict[str, Any]:
    """What is asked for, its paths changed as those of settings are."""
    found = dict(told)
    for key, setting in PATHS.items():
        if found.get(key):
            found[key] = change({setting: found[key]})[setting]
    if found.get("options"):
        found["options"] = change(found["options"])
    return found

"""The names that a user can type, each with what its own source says about it; loads no model library."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rpo_cli import registry, templates
from rpo_cli.cli.explain import explain, parts
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.recipes import RECIPES
from rpo_cli.recipes.rewards import SCORERS

KINDS = [*registry.KINDS, "templates"]
GPU = Path("/dev/nvidia0")
SETTINGS = frozenset({*TrainSettings.model_fields, *OnlineSettings.model_fields}) - {"name"}


@dataclass(frozen=True)
class Name:
    kind: str
    name: str
    summary: str
    source: str
    defaults: str = ""
    needs: str = ""
    license: str = ""
    memory: str = ""
    usable: str = ""


def names_of(kind: str) -> list[Name]:
    """The names of a kind with what their own source says about them."""
    if kind == "templates":
        return [Name(kind, style, "critique style", "") for style in templates.styles()]
    if kind == "critics":
        return [*map(_backend, registry.names(kind).items()), *map(_model, registry.critic_models.items())]
    if kind == "rewards":
        return [_reward(*item) for item in registry.names(kind).items()]
    if kind in RECIPES:
        return [_pipeline(kind, *item) for item in registry.names(kind).items()]
    return [
        Name(kind, name, *explain(place), *(_objective(place) if kind == "objectives" else ()))
        for name, place in registry.names(kind).items()
    ]


def _pipeline(kind: str, name: str, place: str) -> Name:
    """An editor or generator: its numbers, the licences of the weights it is known with, what it needs."""
    how = RECIPES[kind].get(name)
    if how is None:  # a third party's
        return Name(kind, name, *explain(place), usable="not known")
    numbers = {"steps": how.steps, "guidance": how.guidance, "image_guidance": how.image_guidance}
    missing = [package for package in how.needs if find_spec(package) is None]
    no_gpu = "" if GPU.exists() else "; no NVIDIA GPU here: slow"
    return Name(
        kind,
        name,
        how.summary,
        how.source,
        ", ".join(f"{key} {value:g}" for key, value in numbers.items() if value is not None),
        license=", ".join(f"{model.ref}: {model.license}" for model in how.models),
        memory=", ".join(f"{model.ref}: {model.memory}" for model in how.models if model.memory),
        usable=f"no: needs {', '.join(missing)}" if missing else f"yes{no_gpu}",
    )


def _reward(name: str, place: str) -> Name:
    """A reward: the weights it is known with, their licences, and what is between them and a score."""
    how = SCORERS.get(name)
    if how is None:  # a third party's
        return Name("rewards", name, *explain(place), usable="not known")
    no_gpu = "" if GPU.exists() else "; no NVIDIA GPU here: slow"
    return Name(
        "rewards",
        name,
        *explain(place),
        license=", ".join(f"{model.ref}: {model.license}" for model in how.models),
        memory=", ".join(f"{model.ref}: {model.memory}" for model in how.models if model.memory),
        usable=f"{how.usable or 'yes'}{no_gpu}",
    )


def _backend(item: tuple[str, str]) -> Name:
    """A way to ask a critic, and what it needs on this machine."""
    name, place = item
    needs = {
        "openai": "with --critic-url",
        "vllm-server": "yes" if find_spec("vllm") else "with --server-python: no vLLM in this Python",
        "vllm": "yes" if find_spec("vllm") else "no: vLLM is not installed in this Python",
    }
    return Name("critics", name, *explain(place), usable=needs.get(name, "yes"))


def _model(item: tuple[str, str]) -> Name:
    """A critic that --critic takes by this name: licence, memory of its weights, whether it runs here."""
    name, place = item
    said = parts(place)
    here = "weights never loaded by our tests" if GPU.exists() else "no: no NVIDIA GPU here"
    memory = f"{said.get('gigabytes', 0)} GB"
    summary, source, license = (str(said.get(key, "")) for key in ("summary", "source", "license"))
    return Name("critics", name, summary, source, license=license, memory=memory, usable=here)


def _objective(place: str) -> tuple[str, str]:
    """The numbers that an objective names, as settings, and what it needs."""
    said = parts(place)
    shown = {"beta": said.get("default_beta")} | {
        name: value for name, value in said.items() if name in SETTINGS
    }
    defaults = [
        f"{name} {value:g}" if isinstance(value, int | float) else f"{name} {value}"
        for name, value in shown.items()
        if value is not None
    ]
    return ", ".join(defaults), said.get("needs", "a reference")

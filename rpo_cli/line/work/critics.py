"""Which critic a run asks, and how its backend is reached; rewards that ask a VLM reach theirs likewise."""

import shlex
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from rpo_cli import installing, registry, templates
from rpo_cli.config import CritiqueSettings
from rpo_cli.errors import MissingDependency, UsageError
from rpo_cli.identity import ModelIdentity, function, served
from rpo_cli.line.imports.sources import labelled_only
from rpo_cli.line.session import Line
from rpo_cli.model_files import PICKLES
from rpo_cli.protocols import Weights
from rpo_cli.recipes.rewards import scorer
from rpo_cli.records import canonical_json
from rpo_cli.scopes import REWARDS

SERVED = "openai"  # the backend whose model only its server knows
OWN_SERVER = "vllm-server"
IN_PROCESS = "vllm"
# of the settings in [critique]: how a server is reached changes no row
REACHED = frozenset(
    {"critic_url", "key_variable", "server_python", "server_args", "server_seconds"}
    | {"in_flight", "timeout", "tries", "max_requests", "max_tokens_total"}
)
LIMITS = ("max_requests", "max_tokens_total")


def critic_identity(line: Line) -> ModelIdentity:
    """The critic of [critique]; a served one is known by the name that its server gives it.

    Raises:
        UsageError: no critic is named, or the servers serve several.
    """
    s = line.settings.critique
    if s.backend != SERVED:
        return _loadable(line, required(s.critic, "critique.critic"), s.revision)
    if s.critic is not None and not line.resolved.origins["critique.critic"].startswith("preset "):
        return line.know(served(s.critic))
    pinned = line.store.read_manifest().get("models", {}).get("critique.critic_url")
    name = str(pinned).removeprefix("served:") if pinned else _served_name(s)
    return line.know(served(name, "critique.critic_url"))


def _loadable(line: Line, name: str, revision: str | None = None) -> ModelIdentity:
    """The identity of a folder, hub id or short name, unless it is known not to load.

    Raises:
        UsageError: a folder in LLaVA-NeXT's layout.
    """
    place = registry.critic_models.get(name)
    ref = str(attribute_of(place).ref) if place else name
    found = line.identity(ref, revision)
    config = Path(ref) / "config.json"
    if found.kind == "folder" and b'"LlavaQwenForCausalLM"' in _bytes(config):
        raise UsageError(
            f"{ref}: is in the layout of LLaVA-NeXT (LlavaQwenForCausalLM), which neither transformers nor "
            "vLLM loads",
            "name the model that LLaVA-Critic was tuned from, llava-hf/llava-onevision-qwen2-7b-ov-hf, or "
            "convert it with convert_llava_onevision_weights_to_hf.py of an older transformers",
        )
    return found


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def code_settings(kind: str, name: str) -> dict[str, Any]:
    """Of code that is not ours: what of it belongs into a row's key; {} for our own."""
    code = registry.code_of(kind, name)
    return {"code": code} if code else {}


def attribute_of(place: str) -> Any:
    """The thing at "module:attribute"."""
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def check_reached(line: Line, backend: str) -> None:
    """What can be told of a server before anything is asked of it.

    Args:
        backend: of the critic, or of the rewards that ask a VLM.

    Raises:
        UsageError: a wrong URL, a key's variable that is not set, a Python that is not there.
        MissingDependency: vLLM, where this Python is to run it.
    """
    s = line.settings.critique
    limits = [f"critique.{name}" for name in LIMITS if getattr(s, name) is not None]
    if limits and s.backend not in (SERVED, OWN_SERVER):
        raise UsageError(
            f"{', '.join(limits)}: is of what a server is asked; critique.backend = {s.backend} asks none",
            f"leave it out, or --backend {SERVED}",
        )
    if s.chat_template_kwargs and s.backend not in registry.critics:
        raise UsageError(
            f"critique.chat_template_kwargs: nothing is known of what critique.backend = {s.backend} takes",
            f"it is for {', '.join(registry.critics)}",
        )
    if backend == SERVED and s.critic_url:
        from rpo_cli.backends.servers import endpoints

        endpoints(s.critic_url, s.key_variable)
    if backend == OWN_SERVER:
        check_python("critique.server_python", s.server_python, "vLLM")
    here = backend == IN_PROCESS or (backend == OWN_SERVER and s.server_python is None)
    if here and find_spec("vllm") is None:
        raise MissingDependency(
            f"'{backend}' needs vLLM, and this Python has none", installing.own_environment()
        )


def check_python(setting: str, python: str | None, package: str) -> None:
    """Refuse a program that is not there.

    Raises:
        UsageError: names the setting.
    """
    if python and which(python) is None:
        raise UsageError(
            f"{setting}: {python}: no such program", f"name the python of an environment that has {package}"
        )


def _served_name(s: CritiqueSettings) -> str:
    from rpo_cli.backends.served import the_served_name

    return the_served_name(s.critic_url, s.key_variable)


def backend_options(line: Line, backend: str) -> dict[str, Any]:
    """What a critic backend's constructor takes beside its weights."""
    s = line.settings.critique
    if backend not in (SERVED, OWN_SERVER):
        return {}
    common: dict[str, Any] = {"in_flight": s.in_flight, "timeout": s.timeout, "tries": s.tries}
    if backend == SERVED:
        return {**common, "urls": s.critic_url, "key_variable": s.key_variable}
    return {
        **common,
        "python": s.server_python,
        "arguments": s.server_args,
        "seconds": s.server_seconds,
        "logs": str(line.store.path("logs")),
    }


def critic_options(line: Line) -> dict[str, Any]:
    """What the run's critic takes beyond what a reward that asks a VLM does."""
    s = line.settings.critique
    made = backend_options(line, s.backend)
    if s.backend in (SERVED, OWN_SERVER):
        made |= {name: getattr(s, name) for name in LIMITS}
    return made | ({"chat_template_kwargs": s.chat_template_kwargs} if s.chat_template_kwargs else {})


def reward_identity(line: Line, reward: str, ref: str) -> tuple[ModelIdentity, str]:
    """The model of a reward, and canonical JSON of everything that determines its scores."""
    s = line.settings.score
    if is_function(reward):
        found = line.know(function(ref))
        return found, canonical_json({"reward": reward, "model": found.revision})
    _refuse_unusable(reward, ref)
    asked = entry_of(reward).template
    is_served = asked is not None and s.backend == SERVED
    if is_served:
        model = line.know(served(ref))
    else:
        model = line.identity(ref) if asked is None else _loadable(line, ref)
    said: dict[str, Any] = {"reward": reward, "model": model.revision, "dtype": s.dtype}
    said |= scorer(reward).settings()
    said |= code_settings("rewards", reward)
    if asked:
        said["template"] = templates.find(asked, line.templates).sha256
        if s.backend != "transformers":
            said |= {"backend": s.backend, **server_settings(line.settings.critique)}
            code = registry.code_of("critics", s.backend)
            said |= {"asked through": code} if code else {}
    return model, canonical_json(said)


def is_function(reward: str) -> bool:
    """Whether a reward of the run is one of `score.functions`: all others are in the registry."""
    return reward not in registry.names("rewards")


def entry_of(reward: str) -> registry.Entry:
    """What the registry knows of a reward of the run; of one of `score.functions` nothing."""
    return registry.Entry("") if is_function(reward) else registry.entry("rewards", reward)


def built_reward(reward: str, weights: Weights, /, **options: Any) -> Any:
    """The backend of a reward, not loaded yet."""
    if is_function(reward):
        from rpo_cli.backends.function import FunctionReward

        return FunctionReward(weights, **options)
    return registry.build("rewards", reward, weights, **options)


def _refuse_unusable(reward: str, ref: str) -> None:
    """What is published, but must become a folder first: say how."""
    how, place = scorer(reward), Path(ref)
    pickles = [place] if place.suffix in PICKLES and place.is_file() else []
    if place.is_dir() and not any(place.glob("*.safetensors")):
        pickles = sorted(item for item in place.iterdir() if item.suffix in PICKLES)
    lacking = [name for name in how.files if place.is_dir() and not (place / name).is_file()]
    why = ""
    if pickles or ref in how.pickled:
        why = "holds pickled weights; a pickle can run code when it is loaded, so none is"
    elif ref in how.bare:
        why = "holds weights alone"
    elif lacking:
        why = f"lacks {', '.join(lacking)}"
    if how.conversion and why:
        mine = shlex.quote(str(pickles[0])) if len(pickles) == 1 else ""
        raise UsageError(f"score.rewards: {reward}={ref}: {why}", how.converted_from(mine))


def reward_options(line: Line, reward: str) -> dict[str, Any]:
    """What a reward's constructor takes beside its weights."""
    backend = line.settings.score.backend
    entry = entry_of(reward)
    if entry.apart:
        return {"python": line.settings.score.python}
    if entry.template is None:
        return {}
    question = {"template": templates.find(entry.template, line.templates)}
    if backend == "transformers":
        return question
    return {**question, "backend": backend, "server": backend_options(line, backend)}


def served_model(model: ModelIdentity) -> str:
    """What the backend is asked for: a served name, or the reference itself."""
    return model.revision.removeprefix("served:") if model.kind == "served" else model.ref


def server_settings(s: CritiqueSettings) -> dict[str, Any]:
    """What of a server's settings can change a row and so belongs into its key; {} by default."""
    return {"server_args": s.server_args} if s.server_args else {}


def required(value: str | None, setting: str) -> str:
    """The value of a setting that the stage cannot do without."""
    if value is None:
        raise UsageError(f"{setting} is not set", f"pass --{setting.partition('.')[2]} FOLDER_OR_HUB_ID")
    return value


def reward_models(line: Line) -> list[tuple[str, str]]:
    """(reward name, model) of every reward, ("name", "module:function") of every function."""
    return list(line.settings.score.named)


NAMING = (
    REWARDS,
    "pairs.select_by",
    "pairs.reward_weights",
)  # by these somebody asks for a reward


def scoring(line: Line) -> list[tuple[str, str]]:
    """Those of `reward_models` that score the run's pictures.

    Where every pair keeps the label that it came with, those of a preset do not, unless somebody has named
    one: no gate looks at a score there.
    """
    if not labelled_only(line) or any(by_somebody(line, name) for name in NAMING):
        return reward_models(line)
    return [(name, ref) for name, ref in reward_models(line) if is_function(name)]


def by_somebody(line: Line, setting: str) -> bool:
    """Whether a setting is neither a default nor the preset's."""
    resolved = line.resolved
    return resolved.origins.get(setting, "default") not in ("default", f"preset {resolved.preset}")

"""Which backend serves a run's generator or editor, with what numbers, and whether its licence allows it.

A setting that was not given is the recipe's (`rpo_cli/recipes/`); one that has no meaning for the model is
refused at the door (`line/work/model_checks.py`).
"""

import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from rpo_cli import registry
from rpo_cli.adapters import ADAPTER, adapter_file, held
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.identity import CONFIGS, ModelIdentity, served
from rpo_cli.line.session import Line
from rpo_cli.line.work.critics import SERVED, code_settings, required
from rpo_cli.protocols import Weights
from rpo_cli.recipes import recipe, serving
from rpo_cli.recipes.kinds import CONTROLNET, SD, Recipe
from rpo_cli.scopes import GENERATOR, HANGS
from rpo_cli.settings_checks import AUTO, EARLIER, default_of
from rpo_cli.single_file import single_file

ONE_STEP = "one-step"
# settings that not every model takes
OPTIONAL = {
    "generate": ("steps", "guidance", "negative_prompt", "scheduler"),
    "edit": (
        *("steps", "guidance", "image_guidance", "scheduler"),
        *("controlnet", "control_scale", "strength", "area"),
    ),
}
FALLBACK = {"generators": "diffusers", "editors": "instruct-pix2pix"}
MAX_INDEX = 2**20  # bytes of a model_index.json


@dataclass(frozen=True)
class Chosen:
    """A backend with every number settled.

    Attributes:
        options: of the backend's constructor, beside its weights.
        said: what of them belongs into a row's key.
        models: all whose weights take part, the first first.
    """

    name: str
    recipe: Recipe
    options: dict[str, Any]
    said: dict[str, Any]
    models: tuple[ModelIdentity, ...]
    dtype: str
    guidance: tuple[float | None, ...] = (None,)
    image_guidance: tuple[float | None, ...] = (None,)

    def weights(self, device: str) -> Weights:
        """Of the first model, on a device."""
        return Weights(self.models[0].ref, self.models[0].commit, device, self.dtype)


def generator(line: Line) -> Chosen:
    """The generator of [generate].

    Raises:
        UsageError: none is named, or no such model.
    """
    s = line.settings.generate
    model = line.identity(required(s.generator, "generate.generator"), s.revision)
    name = backend_of(line, "generators", s.backend, model)
    how = recipe("generators", name)
    s = s.model_copy(update=dict.fromkeys(left_over(line, "generate", how)))
    adapter = adapter_of(line)
    denoiser = line.identity(s.denoiser) if s.denoiser else None
    numbers = {
        "steps": s.steps if s.steps is not None else how.steps,
        "guidance": s.guidance if s.guidance is not None else how.guidance,
        "scheduler": s.scheduler,
    }
    plain = s.model_dump(include={"negative_prompt", "width", "height"})
    said = {
        **plain,
        **numbers,
        "dtype": s.dtype,
        "model": model.revision,
        "lora": adapter.revision if adapter else None,
    }
    said |= {"denoiser": denoiser.revision} if denoiser else {}
    # of our other names steps, guidance and scheduler tell all that a row depends on
    said |= {"backend": name} if how.options or name == ONE_STEP else {}
    code = code_settings("generators", name)
    if s.compile and code:
        raise UsageError(
            f"generate.compile: '{name}' is of another package, which compiles what it wants to",
            "leave out generate.compile",
        )
    said |= code
    compiled = {"compile": True} if s.compile else {}  # other last bits; rows of before keep their keys
    said |= compiled
    own = {key: value for key, value in how.options.items() if numbers.get(key) is None}
    options = {**plain, **numbers, "lora": s.lora, "denoiser": s.denoiser, **own, **compiled}
    if adapter is not None and adapter.commit:
        options["lora_revision"] = adapter.commit  # what its key names, not a branch that moves
    models = tuple(found for found in (model, adapter, denoiser) if found is not None)
    return Chosen(name, how, options, said, models, s.dtype)


def adapter_of(line: Line) -> ModelIdentity | None:
    """The LoRA of [generate]: a folder of diffusers' or peft's names, a hub id, or a file of any name."""
    ref = line.settings.generate.lora
    if not ref:
        return None
    folder = Path(ref)
    if not folder.exists() or any((folder / name).is_file() for name in (ADAPTER, *CONFIGS)):
        return line.identity(ref)
    file = adapter_file(ref)
    held(file)
    return line.identity(str(file))


def drawn_by(line: Line, model: str, revision: str | None) -> Chosen:
    """The generator of the run where it is `model`, else that model with its own numbers.

    Raises:
        UsageError: no such model.
    """
    s = line.settings
    if model == s.generate.generator:
        return generator(line)
    own = {name.partition(".")[2]: default_of(name) for name in HANGS[(GENERATOR,)]}
    other = s.generate.model_copy(update={**own, "generator": model, "revision": revision})
    settings = s.model_copy(update={"generate": other})
    return generator(replace(line, resolved=replace(line.resolved, settings=settings)))


def editor(line: Line) -> Chosen:
    """The editor of [edit].

    Raises:
        UsageError: none is named, or no such model.
    """
    s = line.settings.edit
    if s.backend == SERVED:
        return _served_editor(line)
    model = line.identity(required(s.editor, "edit.editor"), s.revision)
    name = backend_of(line, "editors", s.backend, model, beside=s.controlnet)
    how = recipe("editors", name)
    s = s.model_copy(update=dict.fromkeys(left_over(line, "edit", how)))
    controlnet = line.identity(s.controlnet) if s.controlnet else None
    options: dict[str, Any] = {
        "steps": s.steps if s.steps is not None else how.steps,
        "scheduler": s.scheduler,
    }
    extra = s.model_dump(include={"control_scale", "strength", "area"}, exclude_none=True)
    said = {
        "backend": name,
        "dtype": s.dtype,
        **options,
        **extra,
        "model": model.revision,
        **code_settings("editors", name),
    }
    options |= {**extra, **how.options}
    if controlnet is not None:
        said |= {"controlnet": controlnet.revision}
        options |= {"controlnet": controlnet.ref, "controlnet_revision": controlnet.commit}
    return Chosen(
        name,
        how,
        options,
        said,
        (model,) if controlnet is None else (model, controlnet),
        s.dtype,
        guidance=s.guidance or (how.guidance,),
        image_guidance=s.image_guidance or (how.image_guidance,),
    )


def _served_editor(line: Line) -> Chosen:
    """An editor that only its server knows, by the name that it is asked for."""
    s = line.settings.edit
    if s.editor is None or line.resolved.origins["edit.editor"].startswith("preset "):
        raise UsageError(
            "edit.editor is not set: the server must be told which model is meant", "pass --editor NAME"
        )
    model = line.know(served(s.editor))
    how = recipe("editors", SERVED)
    options = s.model_dump(include={"key_variable", "in_flight", "timeout", "tries"})
    options |= {"urls": s.editor_url}
    return Chosen(SERVED, how, options, {"backend": SERVED, "model": model.revision}, (model,), s.dtype)


def left_over(line: Line, section: str, how: Recipe) -> list[str]:
    """Settings that an earlier command gave for another model, and that have no meaning for this one."""
    origins = line.resolved.origins
    return [
        name
        for name in OPTIONAL[section]
        if origins[f"{section}.{name}"] == EARLIER and not how.accepts(name)
    ]


def backend_of(
    line: Line, kind: str, asked: str, model: ModelIdentity, *, beside: str | None = None
) -> str:
    """The name that was asked for, or for "auto" the one that serves the model's own files.

    A run keeps to the name that its rows were made with. Where the hub cannot be reached to see the files,
    it is the name of the time before there were others; the door refuses to make rows then.
    """
    if asked != AUTO:
        return asked
    key = f"{kind} {model.ref}@{model.revision}" + (f" + {beside}" if beside else "")
    kept = line.store.read_manifest().get("backends", {}).get(key)
    if kept in registry.names(kind):
        return str(kept)
    try:
        index = pipeline_index(model)
    except RpoError:
        return FALLBACK[kind]
    if beside is not None and index.get("_class_name") == SD:
        index = {**index, "_class_name": CONTROLNET}
    name = serving(kind, index, model.ref) or FALLBACK[kind]
    line.backends[key] = name
    return name


@cache
def pipeline_index(model: ModelIdentity) -> dict[str, Any]:
    """model_index.json, with the denoiser's own configuration under "denoiser"; {} where there is none."""
    index = single_file(model.ref).index if model.kind == "file" else _json(model, "model_index.json")
    if index.get("_class_name") == "FluxPipeline":  # dev and schnell differ in nothing else
        index = {**index, "denoiser": _json(model, "transformer/config.json")}
    return index


def _json(model: ModelIdentity, name: str) -> dict[str, Any]:
    folder = model.folder
    place = folder / name if folder is not None else _downloaded(model, name)
    try:
        if place is None or place.stat().st_size > MAX_INDEX:
            return {}
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _downloaded(model: ModelIdentity, name: str) -> Path | None:
    """A small file of a hub model, in the hub's own cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model.ref, name, revision=model.revision))
    except LocalEntryNotFoundError as error:
        raise RpoError(
            f"{model.ref}: cannot reach the hub, and {name} is not in its local cache",
            "check the network, give a local folder, or name the backend with --backend",
        ) from error
    except EntryNotFoundError:
        return None
    except HfHubHTTPError as error:
        raise RpoError(f"{model.ref}: the hub does not give {name}: {error}", "try again later") from error


def model_of(line: Line, settings: TrainSettings) -> tuple[str, str | None]:
    """Folder or hub id of what is tuned, and its revision as the settings name it."""
    generate = line.settings.generate
    model = settings.model or required(generate.generator, "train.model")
    return model, generate.revision if settings.model is None else None

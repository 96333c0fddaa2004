"""Putting a LoRA onto a pipeline: every layer counted, every number where it belongs."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rpo_cli.adapters import ADAPTER, PEFT, PEFT_CONFIG, SCALING, adapter_file, chosen, scaling_config
from rpo_cli.backends.loading import quiet
from rpo_cli.backends.lora_names import (
    ORIGINAL,
    Matched,
    layers_of,
    match,
    note_of,
    refuse,
    stripped,
)
from rpo_cli.errors import Case, RpoError, UsageError, translated

NAME = "default_0"  # diffusers' for the first
KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha", "bias": "lora_up.bias"}
State = dict[str, Tensor]
_UNREAD = (
    Case(
        ["huggingface_hub.errors.EntryNotFoundError"],
        "{where}: its LoRA is not there: {why}",
        "see its page",
        UsageError,
    ),
    Case(
        ["huggingface_hub.errors.HfHubHTTPError", "huggingface_hub.errors.OfflineModeIsEnabled"],
        "{where}: cannot be read as a LoRA: the hub does not give it: {why}",
        "download it again",
    ),
    Case(
        [OSError, ValueError, SafetensorError],
        "{where}: cannot be read as a LoRA: {why}",
        "download it again",
    ),
)
_UNLOADED = Case(
    [OSError, ValueError, KeyError, RuntimeError, AttributeError],
    "{where}: cannot be loaded as a LoRA of {model}: {why}",
    "give a LoRA that was made for this model",
)


@dataclass(frozen=True)
class _Reading:
    """One way to read a file: its tensors under some names, and which layers they are for."""

    state: State
    matched: Matched


def load_adapter(pipe: Any, ref: str, model: str, revision: str | None = None) -> list[str]:
    """Put a LoRA onto a pipeline.

    Args:
        ref: a file, a folder with one, or a hub id.

    Returns:
        A sentence where not all of it was read, else nothing.

    Raises:
        UsageError: nothing of it is for this model, or its shapes are another model's.
        RpoError: it cannot be read or loaded.
    """
    with translated(*_UNREAD, where=ref):
        file = adapter_file(ref) if Path(ref).exists() else _downloaded(ref, revision)
        state, said = load_file(file), scaling_config(file)
    if not hasattr(pipe, "load_lora_weights"):
        raise UsageError(f"{model}: a {type(pipe).__name__} takes no LoRA", "leave the LoRA out")
    reading = _best(pipe, state)
    refuse(ref, reading.matched, model)
    _numbers(ref, reading)
    idle = _load(pipe, ref, model, reading, said)
    return note_of(ref, reading.matched, idle)


def _downloaded(ref: str, revision: str | None) -> Path:
    """The LoRA of a hub id, in the hub's cache."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    for name in (ADAPTER, PEFT):
        cached = try_to_load_from_cache(ref, name, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    name = chosen(ref, HfApi().list_repo_files(ref, revision=revision))
    if name == PEFT:
        hf_hub_download(ref, PEFT_CONFIG, revision=revision)
    return Path(hf_hub_download(ref, name, revision=revision))


def modules_of(pipe: Any) -> dict[str, dict[str, tuple[int, ...]]]:
    """The layers of a pipeline's parts that can carry a LoRA, with the shapes of their weights."""
    found = {}
    for name in getattr(pipe, "_lora_loadable_modules", ()):
        part = getattr(pipe, name, None)
        if part is not None:
            layers = ((place, getattr(layer, "weight", None)) for place, layer in part.named_modules())
            found[name] = {
                place: tuple(weight.shape)
                for place, weight in layers
                if weight is not None and weight.ndim > 1
            }
    return found


def _best(pipe: Any, state: State) -> _Reading:
    """The reading of which most is for this model: the names as they are, or as diffusers translates."""
    modules = modules_of(pipe)
    first = _reading(state, modules)
    if not first.matched.unknown:
        return first
    layers, loose = layers_of(state)
    plain = [*loose, *(key for layer in layers if layer.kind is None for key in layer.keys.values())]
    given = {key: state[key] for key in plain}  # of a layer of another kind converters read a part
    readings = [first]
    for names in (given, _kohya(given)):
        reading = _reading(_translated(pipe, names), modules)
        reading.matched.unread.update(layer.kind for layer in layers if layer.kind is not None)
        readings.append(reading)
    return max(readings, key=lambda reading: len(reading.matched.found))


def _reading(state: State, modules: Mapping[str, Mapping[str, tuple[int, ...]]]) -> _Reading:
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    return _Reading(state, match(shapes, modules))


def _translated(pipe: Any, state: State) -> State:
    """The tensors under diffusers' names where the pipeline's own converters know theirs."""
    whole = _converted(pipe, state)
    if whole is not None:
        return whole
    layers, loose = layers_of(state)  # one that a converter does not know keeps its name
    found = {key: state[key] for key in loose}
    for layer in layers:
        own = {key: state[key] for key in layer.keys.values()}
        found |= _converted(pipe, own) or own
    return found


def _converted(pipe: Any, state: State) -> State | None:
    how = {"unet_config": pipe.unet.config} if hasattr(pipe, "unet") else {"return_alphas": True}
    try:
        with quiet():
            found = pipe.lora_state_dict(dict(state), **how)
    except (ValueError, KeyError, IndexError, RuntimeError, AttributeError, TypeError):
        return None  # a layout that they do not know
    if not isinstance(found, tuple):
        return dict(found)
    alphas = found[1] or {}
    numbers = {key: value for key, value in alphas.items() if key.endswith("alpha")}
    return {**found[0], **{key: torch.as_tensor(value) for key, value in numbers.items()}}


def _kohya(state: State) -> State:
    """Names of a model's original layout behind any prefix, as kohya spells them."""
    layers, loose = layers_of(state)
    found = {key: state[key] for key in loose}
    for layer in layers:
        component, name = stripped(layer.name, "unet")
        original = component == "unet" and ORIGINAL.search(name)
        base = f"lora_unet_{name.replace('.', '_')}"
        for part, key in layer.keys.items():
            found[f"{base}.{KOHYA[part]}" if original else key] = state[key]
    return found


def _numbers(ref: str, reading: _Reading) -> None:
    """Refuse a file whose numbers are none, or whose alpha is not one."""
    for found in reading.matched.found.values():
        for part, key in found.keys.items():
            given = reading.state[key]
            if part == "alpha" and given.numel() != 1:
                raise UsageError(f"{ref}: {key} is {given.numel()} numbers, not one", "download it again")
            if not given.to(torch.float32).isfinite().all():
                raise UsageError(
                    f"{ref}: {key} holds what is no number (NaN or infinite)",
                    "give another checkpoint of it: its training went wrong, or its file",
                )


def _load(pipe: Any, ref: str, model: str, reading: _Reading, said: Mapping[str, Any]) -> int:
    """Through the pipeline's own loader, under diffusers' names; then each layer is looked at.

    Returns:
        Layers that add nothing.
    """
    state, scales, wanted = {}, {}, {}
    modules = modules_of(pipe)
    for (component, layer), found in reading.matched.found.items():
        weight = modules[component][layer]
        down, up = reading.state[found.keys["down"]], reading.state[found.keys["up"]]
        down = down.reshape(len(down), *weight[1:])  # a convolution of one pixel is a linear layer
        up = up.reshape(*up.shape[:2], *(1 for _ in weight[2:]))
        state[f"{component}.{layer}.lora_A.weight"] = down
        state[f"{component}.{layer}.lora_B.weight"] = up
        if "bias" in found.keys:
            state[f"{component}.{layer}.lora_B.bias"] = reading.state[found.keys["bias"]]
        alpha = reading.state[found.keys["alpha"]].item() if "alpha" in found.keys else None
        scales[component, layer] = _scale(alpha, len(down), component, layer, said)
        wanted[component, layer] = (down, up)
    with quiet(), translated(_UNLOADED, where=ref, model=model):  # diffusers misses layers of every part
        pipe.load_lora_weights(state, adapter_name=NAME)
    arrived = _carrying(pipe)
    for place, (down, up) in wanted.items():
        tuned = arrived.pop(place, None)
        if tuned is None or not (_same(tuned.lora_A[NAME], down) and _same(tuned.lora_B[NAME], up)):
            raise _lost(ref, ".".join(place))
        tuned.scaling[NAME] = scales[place]
    if arrived:
        raise _lost(ref, ".".join(next(iter(arrived))))
    return sum(not (scales[place] and down.any() and up.any()) for place, (down, up) in wanted.items())


def _carrying(pipe: Any) -> dict[tuple[str, str], Any]:
    return {
        (component, name): layer
        for component in getattr(pipe, "_lora_loadable_modules", ())
        if getattr(pipe, component, None) is not None
        for name, layer in getattr(pipe, component).named_modules()
        if isinstance(layer, BaseTunerLayer) and NAME in getattr(layer, "lora_A", ())
    }


def _same(factor: Any, given: Tensor) -> bool:
    weight = factor.weight.detach()
    return bool((weight.cpu() == given.to(weight.dtype)).all())


def _lost(ref: str, layer: str) -> RpoError:
    return RpoError(
        f"{ref}: after loading, the layer {layer} is not what the file says",
        "report this with the LoRA and the versions of diffusers and peft",
    )


def _scale(alpha: float | None, rank: int, component: str, layer: str, said: Mapping[str, Any]) -> float:
    """What the product of both factors is multiplied by: alpha / rank, or alpha / √rank (rsLoRA)."""
    told = {name: said.get(f"{component}.{name}", said.get(name)) for name in SCALING}
    if alpha is None:
        fitting = (
            value
            for pattern, value in (told["alpha_pattern"] or {}).items()
            if re.match(rf"(.*\.)?({pattern})$", layer)
        )
        alpha = next(fitting, told["lora_alpha"])
    if alpha is None:
        return 1.0
    return float(alpha) / (math.sqrt(rank) if told["use_rslora"] else rank)

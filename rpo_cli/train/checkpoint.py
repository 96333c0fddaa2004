"""One safetensors file a checkpoint: weights, averages, optimiser state, the step. Draws have no state."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from rpo_cli.train.data.storage import safetensors_bytes, write_atomically
from rpo_cli.train.policy import STATE, put_state

SMALL = 1024
PATTERN = "checkpoint-*.safetensors"


def save(
    folder: Path,
    step: int,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    averages: Mapping[str, Tensor] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Commit the state after `step` optimiser steps, or rounds, then delete older checkpoints.

    Args:
        extra: more that `extra` gives back, as JSON.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"weight.{name}"] = parameter
        state = optimiser.state[parameter]
        tensors |= {f"{moment}.{name}": _own(state[moment]) for moment in STATE if moment in state}
    tensors |= {f"average.{name}": value for name, value in (averages or {}).items()}
    told = {"step": step, "scaler": scaler.state_dict(), **({"extra": extra} if extra else {})}
    state_json = json.dumps(told, sort_keys=True)
    path = folder / f"checkpoint-{step:08d}.safetensors"
    write_atomically(path, safetensors_bytes(tensors, {"state": state_json}))
    for older in sorted(folder.glob(PATTERN))[:-1]:
        older.unlink(missing_ok=True)


def _own(value: Any) -> Tensor:
    """A tensor of its own: 8-bit optimisers have one map for all weights, and an integer step."""
    found = torch.as_tensor(value)
    return found.clone() if found.numel() <= SMALL else found


def digest(parameters: Mapping[str, nn.Parameter]) -> str:
    """Content hash of the weights, 64 hex digits."""
    found = hashlib.sha256()
    for parameter in parameters.values():
        found.update(parameter.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def latest(folder: Path) -> Path | None:
    return max(folder.glob(PATTERN), default=None)


def restore(
    path: Path,
    parameters: dict[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    averages: Mapping[str, Tensor] | None = None,
) -> int:
    """Put a checkpoint's state into place; returns its step. `parameters` are the optimiser's, in order."""
    moments: dict[int, dict[str, Tensor]] = {}
    with safe_open(path, framework="pt") as file:
        present = set(file.keys())
        for index, (name, parameter) in enumerate(parameters.items()):
            parameter.data.copy_(file.get_tensor(f"weight.{name}"))
            found = [moment for moment in STATE if f"{moment}.{name}" in present]
            stored = {moment: file.get_tensor(f"{moment}.{name}") for moment in found}
            moments[index] = {moment: _laid_out_like(parameter, value) for moment, value in stored.items()}
        for name, value in (averages or {}).items():
            value.copy_(file.get_tensor(f"average.{name}"))
        state = json.loads(file.metadata()["state"])
    if any("state1" in found for found in moments.values()):
        for index, parameter in enumerate(parameters.values()):
            put_state(optimiser, parameter, moments[index])
    else:
        groups = optimiser.state_dict()["param_groups"]
        optimiser.load_state_dict({"state": moments, "param_groups": groups})
    scaler.load_state_dict(state["scaler"])
    return int(state["step"])


def extra(path: Path) -> dict[str, Any]:
    """What `save` was given beside weights, averages and optimiser."""
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["state"]).get("extra", {})
    return found


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Fused AdamW walks raw memory: moments in another layout than the weight meet the wrong weights."""
    if value.shape != parameter.shape:  # the step count
        return value
    return torch.empty_like(parameter, device="cpu", dtype=value.dtype).copy_(value)

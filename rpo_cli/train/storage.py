"""Files that are whole or absent, named tensors in safetensors blocks that never change, and checkpoints.

A checkpoint is one file: weights, averages, optimiser state, the step. Draws have no state.
"""

import contextlib
import hashlib
import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rpo_cli.errors import Case, StorageError, translated
from rpo_cli.files import draft_of, make_folder, sync, sync_tree, write_whole
from rpo_cli.records import content_key

TEMPORARY = ".tmp-"


def write_atomically(path: Path, data: bytes) -> None:
    """`files.write_whole`, its errors as a person reads them.

    Raises:
        StorageError: no space, or no permission.
    """
    with storage_errors(path):
        write_whole(path, data, prefix=TEMPORARY)


@contextlib.contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """A temporary folder to fill that becomes `path` at the end, replacing what stood there."""
    temporary = draft_of(path, TEMPORARY)
    with storage_errors(path):
        make_folder(path.parent)
        temporary.mkdir()
        yield temporary
        sync_tree(temporary)
        if path.exists():  # only an export that a kill cut off before its commit
            shutil.rmtree(path)
        temporary.replace(path)
        sync(path.parent)


def remove_temporaries(folder: Path) -> None:
    """Delete what killed writers left behind. The caller holds the lock of this folder."""
    for left in folder.glob(f"{TEMPORARY}*"):
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def safetensors_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with a sorted header.

    The library writes metadata in the order of a randomly seeded hash map: equal content would give
    other bytes in every process.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(tensors.items())}
    raw = save(whole, metadata=dict(metadata))
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.dumps(json.loads(raw[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + raw[8 + length :]


_UNWRITTEN = Case(
    [OSError],
    "{where}: cannot be written: {system}",
    "free some space or check the permissions, then run the same command again; nothing is lost",
    StorageError,
)


def storage_errors(path: Path) -> contextlib.AbstractContextManager[None]:
    """Make a failing write a StorageError that names `path`."""
    return translated(_UNWRITTEN, where=str(path))


class Shelf:
    """A folder of blocks: named tensors, found by name, read one by one through the page cache."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks: dict[str, safe_open] = {}
        for path in sorted(folder.glob("*.safetensors")):
            self._open(path)

    def __contains__(self, name: str) -> bool:
        return name in self._blocks

    def get(self, name: str) -> Tensor:
        tensor: Tensor = self._blocks[name].get_tensor(name)
        return tensor

    def add(self, tensors: dict[str, Tensor]) -> None:
        """Commit a block."""
        path = self._folder / f"{content_key(sorted(tensors))}.safetensors"
        write_atomically(path, safetensors_bytes(tensors, {}))
        self._open(path)

    def _open(self, path: Path) -> None:
        try:
            block = safe_open(path, framework="pt")
        except SafetensorError:  # damaged after it was written: it can be made again
            path.unlink(missing_ok=True)
            return
        self._blocks.update(dict.fromkeys(block.keys(), block))


# of a parameter's state, by name: the step, AdamW's moments, Adafactor's sums of squares, 8-bit moments
# with their maps and the scales of their blocks
FLOATS = ("step", "exp_avg", "exp_avg_sq", "row_var", "col_var", "variance")
STATE = (*FLOATS, "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2")


def put_state(
    optimiser: torch.optim.Optimizer, parameter: nn.Parameter, state: Mapping[str, Tensor]
) -> None:
    """Give a weight its state back as it was; `load_state_dict` would make floats of 8-bit moments."""
    moved = {name: value.to(parameter.device) for name, value in state.items() if name != "step"}
    optimiser.state[parameter] = {**moved, "step": int(state["step"])}


SMALL = 1024
PATTERN = "checkpoint-*.safetensors"


def save_checkpoint(
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
        extra: more that `checkpoint_extra` gives back, as JSON.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[f"weight.{name}"] = parameter
        state = optimiser.state[parameter]
        tensors |= {f"{moment}.{name}": _own(state[moment]) for moment in STATE if moment in state}
    tensors |= {f"average.{name}": value for name, value in (averages or {}).items()}
    whole = {"step": step, "scaler": scaler.state_dict(), **({"extra": extra} if extra else {})}
    state_json = json.dumps(whole, sort_keys=True)
    path = folder / f"checkpoint-{step:08d}.safetensors"
    write_atomically(path, safetensors_bytes(tensors, {"state": state_json}))
    for older in sorted(folder.glob(PATTERN))[:-1]:
        older.unlink(missing_ok=True)


def _own(value: Any) -> Tensor:
    """A tensor of its own: 8-bit optimisers have one map for all weights, and an integer step."""
    found = torch.as_tensor(value)
    return found.clone() if found.numel() <= SMALL else found


def weights_digest(parameters: Mapping[str, nn.Parameter]) -> str:
    """Content hash of the weights, 64 hex digits."""
    found = hashlib.sha256()
    for parameter in parameters.values():
        found.update(parameter.detach().cpu().contiguous().numpy().data)
    return found.hexdigest()


def latest_checkpoint(folder: Path) -> Path | None:
    return max(folder.glob(PATTERN), default=None)


def restore_checkpoint(
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


def checkpoint_extra(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` keeps beside weights, averages and optimiser."""
    with safe_open(path, framework="pt") as file:
        found: dict[str, Any] = json.loads(file.metadata()["state"]).get("extra", {})
    return found


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Fused AdamW walks raw memory: moments in another layout than the weight meet the wrong weights."""
    if value.shape != parameter.shape:  # the step count
        return value
    return torch.empty_like(parameter, device="cpu", dtype=value.dtype).copy_(value)

"""Files that are whole or absent, named tensors in safetensors blocks that never change, and checkpoints.

A checkpoint is one file: weights, averages, optimiser state, the step. Draws have no state.
"""

import contextlib
import hashlib
import json
import re
import shutil
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rpo_cli.errors import Case, StorageError, translated
from rpo_cli.files import draft_of, make_folder, sync, sync_tree, write_whole, writing_whole
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


# the names of number formats in a safetensors header, in the order in which the library lays data out:
# the widest first, so that everything is aligned
DTYPES = {
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.complex64: "C64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
DIGEST = "sha256"  # metadata of a file that tells when it was damaged
BLANK = "0" * 64  # in its place while the file is hashed


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, digest: bool = False
) -> None:
    """A safetensors file, whole or absent, through memory one tensor at a time; equal content, equal bytes.

    The library writes metadata in the order of a randomly seeded hash map, from a copy of all tensors.

    Args:
        digest: write the content's hash into the metadata, for `require_whole`.

    Raises:
        StorageError: no space, or no permission.
    """
    ranked = list(DTYPES)
    names = sorted(tensors, key=lambda name: (ranked.index(tensors[name].dtype), name))
    header = _header(names, tensors, {**metadata, **({DIGEST: BLANK} if digest else {})})
    content = hashlib.sha256(header)
    with storage_errors(path), writing_whole(path, prefix=TEMPORARY) as file:
        file.write(header)
        for name in names:
            data = _raw(tensors[name])
            file.write(data)
            if digest:
                content.update(data)
        if digest:
            file.seek(0)
            file.write(header.replace(BLANK.encode(), content.hexdigest().encode(), 1))


def _header(names: Sequence[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    found: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        value, start = tensors[name], end
        end += value.numel() * value.element_size()
        found[name] = {
            "dtype": DTYPES[value.dtype],
            "shape": list(value.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(found, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _raw(value: Tensor) -> memoryview:
    """A tensor's numbers in row-major order, without a copy where they lie so on this device's host."""
    flat = value.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def holds(path: Path, tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of tensors that a safetensors file lacks, has beside these, or holds with other numbers.

    Read one at a time, so that no file is mapped beside what it is compared with.
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        differing = set(entries) ^ set(tensors)
        for name in sorted(set(entries) & set(tensors)):
            start, end = entries[name]["data_offsets"]
            file.seek(8 + length + start)
            data = np.frombuffer(file.read(end - start), dtype=np.uint8)
            kind = (DTYPES[tensors[name].dtype], list(tensors[name].shape))
            alike = kind == (entries[name]["dtype"], entries[name]["shape"])
            if not (alike and np.array_equal(data, np.frombuffer(_raw(tensors[name]), dtype=np.uint8))):
                differing.add(name)
    return sorted(differing)


_DAMAGED = Case(
    [SafetensorError, OSError],
    "{where}: damaged after it was written: {why}",
    "delete it: its training starts anew",
)


def require_whole(path: Path) -> None:
    """Hash a file again that was written with its digest; one that has none passes.

    Raises:
        RpoError: it is damaged.
    """
    with path.open("rb") as file, translated(_DAMAGED, where=str(path)):
        start = file.read(8)
        header = file.read(min(int.from_bytes(start, "little"), path.stat().st_size))
        found = re.search(rb'"sha256":"(.{64})"', header)
        if found is None:
            return
        content = hashlib.sha256(start + header.replace(found[1], BLANK.encode(), 1))
        while data := file.read(1 << 20):
            content.update(data)
        if content.hexdigest().encode() != found[1]:
            raise SafetensorError("its content is not what was hashed")


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
        write_tensors(path, tensors, {})
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
        found = {moment: torch.as_tensor(state[moment]) for moment in STATE if moment in state}
        tensors |= {f"{moment}.{name}": value for moment, value in found.items()}
    tensors |= {f"average.{name}": value for name, value in (averages or {}).items()}
    whole = {"step": step, "scaler": scaler.state_dict(), **({"extra": extra} if extra else {})}
    state_json = json.dumps(whole, sort_keys=True)
    path = folder / f"checkpoint-{step:08d}.safetensors"
    write_tensors(path, tensors, {"state": state_json}, digest=True)
    for older in sorted(folder.glob(PATTERN))[:-1]:
        older.unlink(missing_ok=True)


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
    """Put a checkpoint's state into place; returns its step. `parameters` are the optimiser's, in order.

    Raises:
        RpoError: it is damaged.
    """
    moments: dict[int, dict[str, Tensor]] = {}
    require_whole(path)
    with translated(_DAMAGED, where=str(path)), safe_open(path, framework="pt") as file:
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

"""Files that are whole or absent, and safetensors whose bytes depend on their content only."""

import contextlib
import json
import os
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from rpo_cli.errors import StorageError

TEMPORARY = ".tmp-"


def write_atomically(path: Path, data: bytes) -> None:
    """Write, fsync, rename, fsync the folder: a kill leaves the old file or the new one.

    Raises:
        StorageError: no space, or no permission.
    """
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)


@contextlib.contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """A temporary folder to fill that becomes `path` at the end, replacing what stood there."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    with storage_errors(path):
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync_folder(file)  # fsync works on any open descriptor
        if path.exists():  # only an export that a kill cut off before its commit
            shutil.rmtree(path)
        temporary.replace(path)
        _sync_folder(path.parent)


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


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Make a failing write a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written: {error.strerror or error}",
            "free some space or check the permissions, then run the same command again; nothing is lost",
        ) from error


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

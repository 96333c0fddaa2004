"""Files that are whole or absent, and named tensors in safetensors blocks that never change."""

import contextlib
import json
import shutil
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from rpo_cli.errors import StorageError
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

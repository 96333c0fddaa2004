"""One file of pickled weights → safetensors. Only torch's weights-only unpickler ever reads the pickle.

It knows tensors and plain containers and calls nothing that a file names; what it refuses stays refused.
"""

import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from rpo_cli.errors import StorageError, UsageError

WHOLE = "."  # the key of a file that is a state dict itself
PACKED = torch.contiguous_format
DEPTH = 3  # of dictionaries in which a state dict is looked for
GROWTH, SLACK = 4, 1 << 20  # views may take so many times the file, and a megabyte
KEPT = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool}
    | {torch.uint16, torch.uint32, torch.uint64}
)
# whatever a damaged or hostile file makes the readers of zip, pickle and storages raise
_BROKEN = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, RuntimeError, EOFError, ValueError),
    *(LookupError, AttributeError, TypeError, AssertionError, ArithmeticError, MemoryError, OSError),
)
_ASKED = re.compile(r"GLOBAL (\S+) (?:was not an allowed global|whose module)")
_ELSE = "get this model as safetensors, or ask who published it for its state dict alone"


def rewrite(source: Path, out: Path, key: str | None = None) -> tuple[str, dict[str, int], tuple[str, ...]]:
    """Write the state dict of a pickle as safetensors, read the file back and compare every tensor.

    Tensors that share memory become one copy per name: no name that a loader may ask for is missing.

    Returns:
        The key the state dict stood under, tensor → bytes, and the entries that are no tensors.

    Raises:
        UsageError: weights-only load refuses the file, it is damaged, holds no or several state dicts, or a
            tensor that safetensors cannot keep.
        StorageError: the file cannot be written, or reads back otherwise.
    """
    with _refusing(source):
        key, state = _state_dict(source, _loaded(source), key)
        kept = {name: _kept(source, name, part) for name, part in state.items() if isinstance(part, Tensor)}
        if (total := sum(value.nbytes for value in kept.values())) > GROWTH * source.stat().st_size + SLACK:
            raise UsageError(f"{source}: its tensors would take {total:,} bytes", _ELSE)
        apart, seen = {}, set()
        for name, value in kept.items():  # contiguous, and no two in the same memory
            place = value.untyped_storage().data_ptr()
            apart[name] = value.contiguous() if place not in seen else value.clone(memory_format=PACKED)
            seen.add(place)
    try:
        save_file(apart, out, metadata={"format": "pt"})  # transformers asks for this entry
        with safe_open(out, "pt") as file:
            wrong = sorted(set(file.keys()) ^ kept.keys())
            wrong = wrong or [name for name in apart if not _same(file.get_tensor(name), apart[name])]
    except SafetensorError as error:  # the disk's errors too
        hint = "free some space, then run the same command again"
        raise StorageError(f"{out.name}: cannot be written: {error}", hint) from error
    if wrong:
        hint = "see that the disk is sound, then run the same command again; nothing was kept"
        raise StorageError(f"{out.name}: '{wrong[0][:100]}' reads back otherwise than it was written", hint)
    rest = tuple(str(name)[:100] for name in state if name not in kept)
    return key, {name: value.nbytes for name, value in kept.items()}, rest


@contextmanager
def _refusing(source: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as error:
        raise UsageError(f"{source}: no permission to read it", "change its mode") from error
    except _BROKEN as error:
        asked = _ASKED.search(str(error))
        why = f"it asks for {asked[1][:100]}" if asked else "damaged, or no file of tensors"
        raise UsageError(f"{source}: weights-only load refuses it: {why}", _ELSE) from error


def _loaded(source: Path) -> Any:
    """What weights-only load makes of a file; the tensors of a zip stay on disk until they are read."""
    with source.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"  # torch's format since 1.6; older files are bare pickles
    if zipped:
        with zipfile.ZipFile(source) as archive:  # torch never compresses: only a bomb does
            if any(each.compress_type != zipfile.ZIP_STORED for each in archive.infolist()):
                raise UsageError(f"{source}: is a compressed zip, which torch.save never writes", _ELSE)
    # weights_only is given: no environment variable can take it back
    return torch.load(str(source), map_location="cpu", weights_only=True, mmap=zipped)


def _state_dict(source: Path, loaded: Any, key: str | None) -> tuple[str, Mapping[str, Any]]:
    """The dictionary of named tensors under `key`, or the only one there is."""
    found: dict[str, Mapping[str, Any]] = {}
    waiting, seen = [("", loaded, 0)], set()
    for path, value, depth in waiting:  # grows as it is walked: the outermost first
        if not isinstance(value, Mapping) or id(value) in seen:
            continue
        seen.add(id(value))
        names = [name for name, inner in value.items() if isinstance(inner, Tensor)]
        if names and all(isinstance(name, str) for name in names):
            found[path or WHOLE] = value
        inner = [(name, part) for name, part in value.items() if isinstance(name, str) and depth < DEPTH]
        waiting += [(f"{path}.{name}" if path else name, part, depth + 1) for name, part in inner]
    keys = ", ".join(each[:100] for each in list(found)[:8])
    if not found:
        raise UsageError(f"{source}: holds no dictionary of tensors", _ELSE)
    if key is None and len(found) > 1:
        raise UsageError(
            f"{source}: holds several dictionaries of tensors: {keys}", "name one of them with --key"
        )
    key = next(iter(found)) if key is None else key
    if key not in found:
        raise UsageError(f"{source}: has no tensors under '{key}'", f"--key takes one of: {keys}")
    return key, found[key]


def _kept(source: Path, name: str, value: Tensor) -> Tensor:
    """A tensor that safetensors can keep: dense, of its types, with data here, under a name not its own."""
    plain = type(value) in (Tensor, torch.nn.Parameter) and value.layout == torch.strided
    if not plain or value.device.type != "cpu" or value.dtype not in KEPT or name == "__metadata__":
        what = f"{value.dtype}, {value.layout}, {value.device.type}"
        raise UsageError(f"{source}: safetensors cannot keep '{name[:100]}' ({what})", _ELSE)
    return value.detach().resolve_neg()


def _same(back: Tensor, value: Tensor) -> bool:
    """Whether dtype, shape and bits are equal; NaN is equal to itself."""
    one, other = (each.reshape(-1).view(torch.uint8) for each in (back, value))
    return (back.dtype, back.shape) == (value.dtype, value.shape) and torch.equal(one, other)

"""Which file of a folder is the LoRA, whatever it is called, and what its writer said of its scale."""

import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.model_files import METADATA, PICKLES, Shapes, header, shapes

ADAPTER = "pytorch_lora_weights.safetensors"  # diffusers' name
PEFT = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
_FACTOR = re.compile(
    r"[._](lora_[AB]|lora_down|lora_up|lora\.down|lora\.up|hada_w\d_[ab]|lokr_w\d(_[ab])?|b?oft_\w+)\b"
    r"|\.diff(_b)?$"
)
SCALING = ("lora_alpha", "alpha_pattern", "use_rslora")  # of peft's configuration
DIFFUSERS_CONFIG = "lora_adapter_metadata"  # in the header of files that diffusers wrote


def adapter_file(ref: str) -> Path:
    """The LoRA of a local file or folder.

    Raises:
        UsageError: it is none of safetensors, there is none, or there are several and none has a name of
            diffusers' or peft's.
    """
    place = Path(ref)
    if place.is_dir():
        return place / chosen(ref, (path.name for path in place.iterdir() if path.is_file()))
    if place.suffix != ".safetensors":
        raise UsageError(
            f"{ref}: is no LoRA: only .safetensors files are read",
            f"`{_conversion(place)}` makes one of a pickle",
        )
    return place


def _conversion(file: Path) -> str:
    return f"rpo convert {shlex.quote(str(file))} {shlex.quote(str(file.with_suffix('.safetensors')))}"


def chosen(ref: str, names: Iterable[str]) -> str:
    """The name among a folder's that is the LoRA; errors as of `adapter_file`."""
    every = sorted(name for name in names if not name.startswith("."))
    found = [name for name in every if name.endswith(".safetensors")]
    for name in (ADAPTER, PEFT):
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    if not found:
        pickle = next((name for name in every if name.endswith(PICKLES)), None)
        raise UsageError(
            f"{ref}: holds no LoRA (no .safetensors file)",
            f"`{_conversion(Path(ref, pickle))}` makes one of its pickle"
            if pickle
            else "give its file, or a folder that holds one",
        )
    told = ", ".join(found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
    raise UsageError(
        f"{ref}: holds several .safetensors files, none called {ADAPTER}: {told}",
        "name the one that is meant, by its file name; from the hub: hf download ID FILE --local-dir DIR",
    )


def is_adapter(file: Path) -> bool:
    """Whether a safetensors file holds an adapter's factors; a file that cannot be read holds none."""
    try:
        return any(_FACTOR.search(name) for name in header(file))
    except (OSError, ValueError):
        return False


def held(file: Path) -> Shapes:
    """Shapes of a LoRA's tensors.

    Raises:
        UsageError: it cannot be read, or holds no adapter's factors.
    """
    try:
        found = shapes(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read as a LoRA: {error}", "download it again") from error
    if not is_adapter(file):
        raise UsageError(
            f"{file}: holds no layer of a LoRA (first tensor: {min(found, default='none')})",
            "give a LoRA's file or folder",
        )
    return found


def config_beside(file: Path) -> Path | None:
    """peft's adapter_config.json beside a LoRA, where that tells its scale, not the file's header."""
    beside = file.with_name(PEFT_CONFIG)
    inside = DIFFUSERS_CONFIG in header(file).get(METADATA, {})
    return beside if not inside and beside.is_file() else None


def scaling_config(file: Path) -> dict[str, Any]:
    """What the scale of a LoRA follows from in peft's configuration (`SCALING`), checked.

    It stands in the file's header (diffusers, whose names begin with the part of the pipeline:
    "unet.lora_alpha"), or in adapter_config.json beside.

    Raises:
        UsageError: it cannot be read, or is no such configuration.
    """
    beside = config_beside(file)
    said = header(file).get(METADATA, {}).get(DIFFUSERS_CONFIG, "{}")
    where = beside or file
    try:
        found: Any = json.loads(beside.read_text(encoding="utf-8") if beside else said)
        if not isinstance(found, Mapping):
            raise ValueError("no table")
        return {name: _scaling(name, value) for name, value in found.items() if _last(name) in SCALING}
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{where}: is no LoRA's configuration: {error}", "download it again") from error


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _scaling(name: str, value: Any) -> Any:
    """A value that a scale is computed from; ValueError: it is of another kind."""
    if value is None or _last(name) == "use_rslora":
        return value
    numbers = value if _last(name) == "alpha_pattern" else {"": value}
    if not isinstance(numbers, Mapping) or not all(map(_is_number, numbers.values())):
        raise ValueError(f"{name} is {value!r}")
    try:
        for pattern in numbers:
            re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{name}: {error}") from error
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""Which file of a folder is the LoRA, whatever it is called, and what its writer said of its scale."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rpo_cli.errors import UsageError
from rpo_cli.headers import METADATA, header

ADAPTER = "pytorch_lora_weights.safetensors"  # diffusers' name
PEFT = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
_FACTOR = re.compile(r"[._](lora_[AB]|lora_down|lora_up|lora\.down|lora\.up|hada_w1_a|lokr_w\d)\b")
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
            f"`rpo convert {ref} {place.with_suffix('.safetensors')}` makes one of a pickle",
        )
    return place


def chosen(ref: str, names: Iterable[str]) -> str:
    """The name among a folder's that is the LoRA; errors as of `adapter_file`."""
    found = sorted(name for name in names if name.endswith(".safetensors") and not name.startswith("."))
    for name in (ADAPTER, PEFT):
        if name in found:
            return name
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            f"{ref}: holds no LoRA (no .safetensors file)", "give its file, or a folder that holds one"
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


def scaling_said(file: Path) -> dict[str, Any]:
    """peft's configuration of a LoRA: from the file's header (diffusers), or adapter_config.json beside.

    Names in diffusers' begin with the part of the pipeline: "unet.lora_alpha".
    """
    said = header(file).get(METADATA, {})
    if DIFFUSERS_CONFIG in said:
        return _table(said[DIFFUSERS_CONFIG], file)
    beside = file.with_name(PEFT_CONFIG)
    return _table(beside.read_text(encoding="utf-8"), beside) if beside.is_file() else {}


def _table(text: str, where: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{where}: is no LoRA's configuration: {error}", "download it again") from error
    return dict(found) if isinstance(found, Mapping) else {}

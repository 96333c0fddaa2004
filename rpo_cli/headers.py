"""What a safetensors file says of itself: names and shapes of its tensors, without reading any."""

import json
from math import prod
from pathlib import Path
from typing import Any

MAX_HEADER = 100 << 20  # bytes that the description of a safetensors file may have
METADATA = "__metadata__"

Shapes = dict[str, tuple[int, ...]]


def header(file: Path) -> dict[str, Any]:
    """Name → {"dtype", "shape", "data_offsets"}, and under "__metadata__" what its writer said.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no safetensors file.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError("no safetensors file: its header would be too long")
        found = json.loads(opened.read(length))
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise ValueError("no safetensors file: its header is no table")
    return found


def shapes(file: Path) -> Shapes:
    """Name → shape of every tensor; errors as of `header`."""
    try:
        found = header(file)
        return {name: tuple(map(int, entry["shape"])) for name, entry in found.items() if name != METADATA}
    except (LookupError, TypeError) as error:
        raise ValueError(f"no safetensors file: {error}") from error


def numbers(file: Path) -> int:
    """How many numbers all tensors hold; errors as of `header`."""
    return sum(map(prod, shapes(file).values()))

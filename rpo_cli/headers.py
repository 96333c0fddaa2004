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
        ValueError: it is no safetensors file, or not a whole one.
    """
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError("no safetensors file: its header would be too long")
        found = json.loads(opened.read(length))
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise ValueError("no safetensors file: its header is no table")
    _whole(found, 8 + length, file.stat().st_size)
    return found


def _whole(found: dict[str, Any], start: int, size: int) -> None:
    ends = [entry.get("data_offsets", ())[1:2] for name, entry in found.items() if name != METADATA]
    end = start + max((end[0] for end in ends if end and isinstance(end[0], int)), default=0)
    if size < end:
        raise ValueError(f"cut short: {size:,} of {end:,} bytes")


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

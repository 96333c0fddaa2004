"""A bench is a table of cells, keyed by what determines them, computed when missing, committed.

A cell is a line of results/BENCH.jsonl: canonical JSON of its `inputs`, its `name` and its `value`, the
lines ordered by name. Numbers of a value have at most five decimals, two more than any table prints; what
is looked up (name and inputs) is kept as it is.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from rpo_cli.files import write_whole
from rpo_cli.records import canonical_json

RESULTS = Path(__file__).parent / "results"
DECIMALS = 5


def cell(
    bench: str, name: str, inputs: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The value of a cell; computes and keeps it when no line has this name and these inputs.

    Args:
        inputs: everything that determines the value: settings, weight hashes, data hashes.
    """
    found = find(bench, name, inputs)
    return keep(bench, name, inputs, compute()) if found is None else found


def find(bench: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The value of a cell, None when it was not computed."""
    head = _head(name, inputs)
    line = next((line for line in _lines(bench) if line.startswith(head)), None)
    return None if line is None else dict(json.loads(line)["value"])


def cells(bench: str) -> list[dict[str, Any]]:
    """Every cell of a bench: `inputs`, `name`, `value`."""
    return [json.loads(line) for line in _lines(bench)]


def keep(bench: str, name: str, inputs: Mapping[str, Any], value: Mapping[str, Any]) -> dict[str, Any]:
    """Write a cell, in the place of one of the same name and inputs; returns its value as it is read.

    The file is written whole beside the old one and takes its name; a second process waits for the first.
    """
    head, text = _head(name, inputs), canonical_json(rounded(value))
    RESULTS.mkdir(parents=True, exist_ok=True)
    with _alone(RESULTS):
        others = [line for line in _lines(bench) if not line.startswith(head)]
        lines = sorted([*others, f'{head}"value":{text}}}'], key=_place)
        write_whole(_file(bench), "".join(f"{line}\n" for line in lines).encode())
    return dict(json.loads(text))


def rounded(value: Any) -> Any:
    """A value with every float in it no longer than it is meaningful."""
    if isinstance(value, Mapping):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return round(float(value), DECIMALS) if isinstance(value, float) else value


def as_flags(truths: Iterable[object]) -> str:
    """A character a prompt, 1 where it is true: the one thing that a cell keeps of each prompt."""
    return "".join("1" if truth else "0" for truth in truths)


def flags(text: str) -> np.ndarray:
    """(prompts,) 0.0 and 1.0 of what `as_flags` made."""
    return np.array([*text], dtype=float)


def _head(name: str, inputs: Mapping[str, Any]) -> str:
    """What the line of a cell begins with, and no other line does."""
    return canonical_json({"inputs": inputs, "name": name})[:-1] + ","


def _place(line: str) -> tuple[str, str]:
    return json.loads(line)["name"], line


def _file(bench: str) -> Path:
    return RESULTS / f"{bench}.jsonl"


def _lines(bench: str) -> list[str]:
    path = _file(bench)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [line for line in text.split("\n") if line]  # a string may hold other line ends


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)

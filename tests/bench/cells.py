"""A bench is a table of cells, keyed by what determines them, computed when missing, committed as JSON."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rpo_cli.records import content_key

RESULTS = Path(__file__).parent / "results"


def place(bench: str, name: str, inputs: Mapping[str, Any]) -> Path:
    """The file of a cell: its name and the key of everything that determines its value."""
    return RESULTS / bench / f"{name}-{content_key(bench, name, inputs)[:12]}.json"


def find(bench: str, name: str, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The value of a cell, None when it was not computed."""
    path = place(bench, name, inputs)
    return dict(json.loads(path.read_text())["value"]) if path.is_file() else None


def cell(
    bench: str, name: str, inputs: Mapping[str, Any], compute: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """The value of a cell; computes and writes it when no file has these inputs.

    Args:
        inputs: everything that determines the value: settings, weight hashes, data hashes.
    """
    found = find(bench, name, inputs)
    if found is not None:
        return found
    value = compute()
    path = place(bench, name, inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    body = json.dumps({"name": name, "inputs": inputs, "value": value}, indent=1, sort_keys=True)
    path.write_text(body + "\n")
    return value

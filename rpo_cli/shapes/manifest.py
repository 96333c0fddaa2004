"""Ties the shipped weights to `manifest.json`: sha256 and size of every weight file under
`models/`.

`python -m rpo_cli.shapes.recipe.train manifest` writes it over all model folders there; with
`--models DIR` it is DIR/manifest.json over the folders of DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

MODELS = Path(__file__).parent / "models"
MANIFEST = Path(__file__).parent / "manifest.json"
BUDGET_BYTES = 24_000_000


def digest(file: Path) -> str:
    """sha256 of a file, hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def weight_files(models: Path | None = None) -> list[Path]:
    """Every weight file, sorted by path; of the models that ship when no folder is named."""
    return sorted((models or MODELS).rglob("*.safetensors"))


def current(models: Path | None = None) -> dict[str, dict[str, str | int]]:
    """Path below `models` -> sha256 and bytes, as the files are now."""
    models = models or MODELS
    return {
        file.relative_to(models).as_posix(): {"sha256": digest(file), "bytes": file.stat().st_size}
        for file in weight_files(models)
    }


def recorded() -> dict[str, dict[str, str | int]]:
    """What the manifest says."""
    found: dict[str, dict[str, str | int]] = json.loads(MANIFEST.read_text())
    return found


def main(arguments: list[str]) -> None:
    """`python -m rpo_cli.shapes.recipe.train manifest`."""
    parser = argparse.ArgumentParser(prog="train manifest", description=__doc__)
    parser.add_argument("--models", type=Path, default=MODELS)
    models = parser.parse_args(arguments).models.resolve()
    files = current(models)
    place = MANIFEST if models == MODELS else models / "manifest.json"
    place.write_text(json.dumps(files, indent=2, sort_keys=True) + "\n")
    total = sum(int(entry["bytes"]) for entry in files.values())
    sys.stdout.write(f"{len(files)} files, {total / 1e6:.2f} MB of {BUDGET_BYTES / 1e6:.0f} MB\n")

"""The shipped weights are the ones the manifest names, they fit the budget, and say how they were
made.
"""

from __future__ import annotations

import pytest
from safetensors import safe_open

from rpo_cli.shapes import manifest


def test_every_weight_file_has_the_recorded_checksum():
    assert manifest.current() == manifest.recorded()


def test_all_weights_together_fit_the_wheel():
    total = sum(file.stat().st_size for file in manifest.weight_files())

    assert 0 < total <= manifest.BUDGET_BYTES


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae"])
@pytest.mark.parametrize("name", ["text-to-image", "editor"])
def test_pipeline_weights_carry_settings_seed_and_commit(name: str, part: str):
    (file,) = (manifest.MODELS / name / part).glob("*.safetensors")
    with safe_open(file, framework="pt") as weights:
        said = weights.metadata()

    assert {"seed", "lr", "batch", "samples", "commit", "torch"} <= set(said)

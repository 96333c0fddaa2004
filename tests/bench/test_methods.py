"""The bench of the methods trains by a sweep: the adapters are those that its committed cells measured."""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.bench.arms import arm_dataset
from tests.bench.lines import made_line
from tests.bench.methods import swept
from tests.bench.tuned import tune

DATA = {
    "split": "train",
    "prompts": 12,
    "prompt_seed": 11,
    "run_seed": 0,
    "options": {
        "generate.images_per_prompt": 2,
        "generate.steps": 3,
        "pairs.strategy": "seeds",
        "pairs.min_margin": 0.0,
        "pairs.min_agreement": 0.0,
    },
}
OPTIONS = {"train.learning_rate": 3e-4, "train.steps": 2, "train.global_batch": 8}
LORA = "pytorch_lora_weights.safetensors"


@pytest.mark.slow
def test_a_sweep_of_the_bench_has_the_weights_of_trainings_one_by_one(tmp_path: Path) -> None:
    """Of one method with the preset's beta, and of one that needs the embedder."""
    made_line(DATA, tmp_path)
    dataset = arm_dataset(DATA, tmp_path, {"name": "all"})
    protocol = {"data": DATA, "train": {"options": OPTIONS}}

    found = swept(protocol, tmp_path, dataset, "methods", ["dpo", "relative"], 1)

    for method, adapter in found.items():
        own = {**OPTIONS, "train.method": method, "train.name": f"alone-{method}"}
        alone = tune(DATA, tmp_path, dataset, own, 1)
        ours, theirs = load_file(adapter / LORA), load_file(alone / LORA)  # its header names the training
        assert ours.keys() == theirs.keys()
        assert all(ours[key].tobytes() == theirs[key].tobytes() for key in theirs)

"""Arms of a bench share one run and nothing else."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.lines import dataset_line
from tests.bench.tuned import compared_bootstrap

DATA = {"split": "train", "prompts": 2, "prompt_seed": 0, "run_seed": 0, "options": {"run.threads": 1}}


def test_options_of_one_arm_are_gone_in_the_next(tmp_path: Path) -> None:
    ungated = {"pairs.strategy": "edits", "pairs.min_margin": 0.0, "score.rewards": ["clip=here"]}
    dataset_line(DATA, tmp_path, ungated).record()

    after = dataset_line(DATA, tmp_path).settings

    assert after.pairs.strategy == "all"
    assert after.pairs.min_margin == 0.5
    assert [one.partition("=")[0] for one in after.score.rewards] == ["clip", "vqascore"]
    assert after.run.threads == 1


def test_arms_that_fail_on_the_same_prompts_are_told_apart_by_their_difference() -> None:
    """The prompts' own spread cancels; a difference in one seed of two does not."""
    hard = np.array([0.0, 1.0] * 40)
    half_better = np.stack([hard, np.ones(80)])

    assert compared_bootstrap(np.stack([hard] * 3), np.stack([hard] * 2)) == pytest.approx((0.0, 0.0))
    low, high = compared_bootstrap(half_better, hard[None])
    assert low == pytest.approx(0.0)
    assert 0.4 < high < 0.65

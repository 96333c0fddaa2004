"""A plan for every family: the condition that it counts with has the shape of the real one."""

import pytest

from rpo_cli import registry
from rpo_cli.config import TrainSettings
from rpo_cli.train.look_ahead.plan import plan


@pytest.mark.parametrize("name", list(registry.families))
def test_every_family_is_planned_with_the_condition_that_it_trains_on(model_of, opened, name, tmp_path):
    adapter = opened(name).family
    denoiser = adapter.load_denoiser()
    real = adapter.load_encoders("cpu").encode_prompts(["abc"])
    blank = adapter.blank_condition(1)
    blank.pop("time_ids", None)  # of the picture's size
    assert {part: value.shape for part, value in blank.items()} == {
        part: value.shape for part, value in real.items()
    }
    found = plan(TrainSettings(resolution=16), dataset=tmp_path, model=str(model_of(name)), revision=None)
    assert found.parameters - found.trained == sum(value.numel() for value in denoiser.parameters())
    assert found.flops.policy_backward > found.flops.reference_forward > 0

"""The averaged weights: by hand, against diffusers, through a cut, and as what is exported."""

import pytest
import torch
from diffusers.training_utils import EMAModel
from safetensors.torch import load_file
from torch import nn

from rpo_cli.train import loop as loop_module
from rpo_cli.train.policy import Average
from tests.closeness import assert_close

FILE = "pytorch_lora_weights.safetensors"


def test_an_average_follows_its_formula():
    """d = 2/11, 3/12 and then the bound of 0.25."""
    weight = nn.Parameter(torch.tensor([0.0]))
    average = Average({"w": weight}, decay=0.25)
    expected = 0.0
    for step, (value, decay) in enumerate([(11.0, 2 / 11), (4.0, 0.25), (8.0, 0.25)], start=1):
        weight.data.fill_(value)
        average.update(step)
        expected = decay * expected + (1 - decay) * value
        assert average.values["w"].item() == pytest.approx(expected)


def test_an_average_is_that_of_diffusers_one_step_later():
    """diffusers copies the weights at its first step; from then on both are one recursion."""
    weight = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)))
    theirs, ours = EMAModel([weight], decay=0.9), Average({"w": weight}, 0.9)
    theirs.step([weight])
    for step in range(1, 40):
        weight.data.add_(torch.randn(5, generator=torch.Generator().manual_seed(step)))
        theirs.step([weight])
        ours.update(step)
    assert_close(ours.values["w"], theirs.shadow_params[0])


def test_a_move_keeps_the_share_it_is_told_and_none_of_it_exactly():
    weight = nn.Parameter(torch.tensor([1.0]))
    average = Average({"w": weight}, 0.9)
    weight.data.fill_(3.0)
    average.move(0.25)
    assert average.values["w"].item() == pytest.approx(2.5)
    weight.data.fill_(0.1)
    average.move(0.0)
    assert torch.equal(average.values["w"], weight)


def test_applied_averages_are_taken_out_again_after_an_error():
    weight = nn.Parameter(torch.tensor([1.0]))
    average = Average({"w": weight}, 0.5)
    weight.data = torch.tensor([3.0])

    def fail() -> None:
        assert weight.item() == 1.0
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), average.applied():
        fail()
    assert weight.item() == 3.0
    assert average.values["w"].item() == 1.0


def test_the_average_is_exported_and_the_weights_train_on_undisturbed(run_train):
    plain, averaged = run_train("plain"), run_train("averaged", ema=0.9)
    assert averaged.train_last == plain.train_last
    last, mean = load_file(plain.adapter / FILE), load_file(averaged.adapter / FILE)
    moved = [name for name in last if "lora_B" in name]
    assert all(0 < mean[name].norm() < last[name].norm() for name in moved)
    assert averaged.validation_last != plain.validation_last


def test_a_cut_averaged_training_goes_on_to_the_same_bytes(run_train, monkeypatch):
    whole = run_train("whole", ema=0.9)
    step = loop_module.timed_step

    def cut(job, state, observer):
        if state.step == 3:
            raise KeyboardInterrupt
        return step(job, state, observer)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "timed_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_train("cut", ema=0.9)
    resumed = run_train("cut", ema=0.9)
    assert (resumed.adapter / FILE).read_bytes() == (whole.adapter / FILE).read_bytes()

"""The optimisers that the settings name, and that each goes on bit for bit after a cut."""

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from rpo_cli.config import TrainSettings
from rpo_cli.errors import MissingDependency
from rpo_cli.train import loop as loop_module
from rpo_cli.train import policy, storage
from rpo_cli.train.policy import make_optimiser
from tests.closeness import assert_close

EIGHT_BIT = find_spec("bitsandbytes") is not None  # else only its refusal is tested
NAMES = ["adamw", "adafactor", *(["adamw-8bit"] if EIGHT_BIT else [])]


def step(optimiser, weight, seed) -> None:
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    optimiser.step()


def test_adamw_is_torchs_own_and_fused():
    weight = nn.Parameter(torch.ones(4, 3))
    other = nn.Parameter(torch.ones(4, 3))
    ours = make_optimiser([weight], TrainSettings(learning_rate=0.1, weight_decay=0.3))
    theirs = torch.optim.AdamW([other], lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.3)
    for seed in range(3):
        step(ours, weight, seed)
        step(theirs, other, seed)
    assert ours.param_groups[0]["fused"]
    assert_close(weight, other)


def test_adafactor_keeps_a_row_and_a_column_for_a_matrix():
    weight = nn.Parameter(torch.ones(40, 30))
    optimiser = make_optimiser([weight], TrainSettings(optimiser="adafactor", learning_rate=0.1))
    step(optimiser, weight, 0)
    kept = sum(value.numel() for value in optimiser.state[weight].values())
    assert kept <= 40 + 30 + 1
    assert not torch.equal(weight, torch.ones(40, 30))


@pytest.mark.parametrize("name", NAMES)
def test_an_optimisers_state_goes_through_a_checkpoint_bit_for_bit(name, tmp_path):
    """A matrix, a convolution in channels-last layout and a bias."""
    settings = TrainSettings(optimiser=name, learning_rate=0.1)
    shapes = {"matrix": (80, 64), "convolution": (4, 3, 3, 3), "bias": (4,)}

    def fresh():
        made = {key: torch.ones(shape) for key, shape in shapes.items()}
        made["convolution"] = made["convolution"].contiguous(memory_format=torch.channels_last)
        parameters = {key: nn.Parameter(value) for key, value in made.items()}
        return parameters, make_optimiser(parameters.values(), settings)

    scaler = torch.amp.GradScaler("cpu", enabled=False)
    one, first = fresh()
    for seed in range(4):
        if seed == 2:
            storage.save_checkpoint(tmp_path, seed, one, first, scaler)
        for index, weight in enumerate(one.values()):
            weight.grad = torch.randn(
                weight.shape, generator=torch.Generator().manual_seed(9 * seed + index)
            )
        first.step()
    two, second = fresh()
    assert storage.restore_checkpoint(storage.latest_checkpoint(tmp_path), two, second, scaler) == 2
    for seed in (2, 3):
        for index, weight in enumerate(two.values()):
            weight.grad = torch.randn(
                weight.shape, generator=torch.Generator().manual_seed(9 * seed + index)
            )
        second.step()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_8_bit_adamw_keeps_a_quarter_of_the_state_or_is_refused_at_the_door(run_train, monkeypatch):
    if EIGHT_BIT:
        weight = nn.Parameter(torch.ones(80, 64))
        optimiser = make_optimiser([weight], TrainSettings(optimiser="adamw-8bit", learning_rate=0.1))
        step(optimiser, weight, 0)
        state = optimiser.state[weight]
        assert state["state1"].dtype == state["state2"].dtype == torch.uint8
        run_train(optimiser="adamw-8bit", full=True)
    monkeypatch.setattr(policy, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="adamw-8bit needs bitsandbytes") as caught:
        run_train("refused", optimiser="adamw-8bit", model="/nowhere/that/is/loaded")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("full", [False, True])
def test_a_cut_adafactor_training_goes_on_to_the_same_bytes(run_train, monkeypatch, full):
    whole = run_train("whole", optimiser="adafactor", full=full)
    train_step = loop_module.timed_step

    def cut(job, state, observer):
        if state.step == 3:
            raise KeyboardInterrupt
        return train_step(job, state, observer)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "timed_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_train("cut", optimiser="adafactor", full=full)
    resumed = run_train("cut", optimiser="adafactor", full=full)
    files = [path.name for path in whole.adapter.glob("*.safetensors")]
    assert files
    assert all((resumed.adapter / f).read_bytes() == (whole.adapter / f).read_bytes() for f in files)

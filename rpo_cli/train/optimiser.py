"""The optimiser that the settings name: fused AdamW, its 8-bit form, or Adafactor with hardly any state.

8-bit AdamW: Dettmers et al. 2021, arXiv:2110.02861, of the package bitsandbytes; weights of fewer than 4096
numbers keep their moments in float32.

Adafactor: Shazeer & Stern 2018, arXiv:1804.04235, without momentum. Its steps are relative to the root mean
square of each weight, so its rate is no AdamW rate.
"""

import importlib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from rpo_cli.config import TrainSettings
from rpo_cli.train.packages import EIGHT_BIT

# of a parameter's state, by name: the step, AdamW's moments, Adafactor's sums of squares, 8-bit moments
# with their maps and the scales of their blocks
FLOATS = ("step", "exp_avg", "exp_avg_sq", "row_var", "col_var", "variance")
STATE = (*FLOATS, "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2")


def make_optimiser(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """Over `parameters`, in their order; the rate is set anew before every step."""
    rate, decay = settings.learning_rate, settings.weight_decay
    assert rate is not None  # settled
    if settings.optimiser == "adafactor":
        return torch.optim.Adafactor(parameters, lr=rate, weight_decay=decay)
    if settings.optimiser == "adamw-8bit":
        eight_bit = importlib.import_module(EIGHT_BIT)
        found: torch.optim.Optimizer = eight_bit.optim.AdamW8bit(parameters, lr=rate, weight_decay=decay)
        return found
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)


def put_state(
    optimiser: torch.optim.Optimizer, parameter: nn.Parameter, state: Mapping[str, Tensor]
) -> None:
    """Give a weight its state back as it was; `load_state_dict` would make floats of 8-bit moments."""
    moved = {name: value.to(parameter.device) for name, value in state.items() if name != "step"}
    optimiser.state[parameter] = {**moved, "step": int(state["step"])}

"""The optimiser that the settings name: fused AdamW, or Adafactor, whose state is a small part of AdamW's.

Adafactor: Shazeer & Stern 2018, arXiv:1804.04235, without momentum. Its steps are relative to the root mean
square of each weight, so its rate is no AdamW rate.
"""

from collections.abc import Iterable

import torch
from torch import nn

from rpo_cli.config import TrainSettings

# of a parameter's state, by name: the step, AdamW's moments, Adafactor's sums of squares
STATE = ("step", "exp_avg", "exp_avg_sq", "row_var", "col_var", "variance")


def make_optimiser(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """Over `parameters`, in their order; the rate is set anew before every step."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "adafactor":
        return torch.optim.Adafactor(parameters, lr=rate, weight_decay=decay)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=True)

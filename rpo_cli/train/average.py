"""A running average of the trained weights (EMA), to be exported instead of the last step's.

Source of the warm-up: diffusers.training_utils.EMAModel.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from rpo_cli.train.policy import Policy


class Average:
    """a ← d a + (1 − d) w after every step, d = min(decay, (1 + step) / (10 + step)).

    Attributes:
        values: the averages by name, float32, each laid out like its weight.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self.values: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after optimiser step `step` (from 1)."""
        self.move(min(self._decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def move(self, keep: float) -> None:
        """a ← keep·a + (1 − keep)·w, without the warm-up of `update`."""
        for name, parameter in self._parameters.items():
            self.values[name].lerp_(parameter, 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in the place of the weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data


def beside(policy: Policy, anchor: Average) -> Policy:
    """The policy with the averaged weights as its reference."""

    @contextmanager
    def reference() -> Iterator[nn.Module]:
        with anchor.applied():
            yield policy.unet

    return replace(policy, reference=reference)

"""Links: what a logit z costs. Each maps (…) to (…) elementwise and teaches that larger z is better.

Source: logistic, Rafailov et al. 2023, arXiv:2305.18290; ipo, Azar et al. 2023, arXiv:2310.12036; slic,
Zhao et al. 2023, arXiv:2305.10425; cauchy and modified ipo, RainbowPO, arXiv:2410.04203; exponential, Tang
et al. 2024, arXiv:2402.05749.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


EXPONENTIAL_FLOOR = -20.0  # e^20 = 4.9e8: beyond, one pair would drown the batch


def identity(z: Tensor) -> Tensor:
    """z itself: for objectives that are no comparison."""
    return z


def logistic(z: Tensor) -> Tensor:
    """−log σ(z), without the overflow of log(sigmoid(z))."""
    import torch

    return -torch.nn.functional.logsigmoid(z)


def ipo(z: Tensor) -> Tensor:
    """(z − ½)²: a finite margin is the aim, also where the labels are certain."""
    return (z - 0.5).square()


def modified_ipo(z: Tensor) -> Tensor:
    """max(0, ½ − z)²: no pull back from beyond the margin."""
    return (0.5 - z).clamp(min=0).square()


def slic(z: Tensor) -> Tensor:
    """max(0, 1 − z)."""
    return (1 - z).clamp(min=0)


def cauchy(z: Tensor) -> Tensor:
    """−log(½ + arctan(z)/π), written so that it does not cancel at large negative z."""
    import torch

    return -torch.log(torch.atan2(torch.ones_like(z), -z) / math.pi)


def exponential(z: Tensor) -> Tensor:
    """exp(−max(z, −20))."""
    import torch

    return torch.exp(-z.clamp(min=EXPONENTIAL_FLOOR))


def utility(z: Tensor) -> Tensor:
    """1 − σ(z): bounded, so that no picture can dominate."""
    import torch

    return torch.sigmoid(-z)


LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "logistic": logistic,
    "ipo": ipo,
    "modified-ipo": modified_ipo,
    "slic": slic,
    "cauchy": cauchy,
    "exponential": exponential,
    "utility": utility,
    "identity": identity,
}

"""What an objective is computed from: per-image denoising errors, and what is known of each item.

An item is a pair, or a ranked list of K pictures of one prompt. Per-image values of B items are (K·B,):
the best picture of every item first, in the order of the items, then the second best, ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from rpo_cli.errors import RpoError

if TYPE_CHECKING:
    from torch import Tensor

    Logits = tuple[Tensor, Tensor | float]  # z, (B,) or (n, B), and the share of each in an item's loss


@dataclass(frozen=True)
class Known:
    """What is known of B items before any model runs; None where the objective does not ask.

    The last axis of every tensor is B.

    Attributes:
        weight: (B,) multiplies z inside the link.
        label: (B,) probability in [0, 1] that the first picture is the better one.
        ratio: (B,) SNR_{t−1}/SNR_t − 1, times what turns an error of the model's target into one of ε.
        gains: (K, B) worth of each picture of a list.
        features: (2, D, B) unit vectors of the winners and of the losers.
        good: (B,) 1 for a single picture that is good, -1 for a bad one.
        noise: (B,) timestep over the number of timesteps, in [0, 1); for the log.
        divergence: (B,) KL per element of one denoising step, in nats per unit of the mean squared distance
            of two predictions; NaN at the ends, where a step has none; for the log.
    """

    weight: Tensor | None = None
    label: Tensor | None = None
    ratio: Tensor | None = None
    gains: Tensor | None = None
    features: Tensor | None = None
    good: Tensor | None = None
    noise: Tensor | None = None
    divergence: Tensor | None = None


@dataclass(frozen=True)
class Errors:
    """Denoising errors of B items, (K·B,) float32: means over C, H, W on the model's own target.

    Attributes:
        cross: mean((ε_θ − ε)(ε_ref − ε)), (K·B,); only for objectives that need it.
        width: K.
        distance: mean((ε_θ − ε_ref)²), (K·B,), without gradient; None where the two did not run together.
    """

    policy: Tensor
    reference: Tensor | None
    cross: Tensor | None = None
    known: Known = field(default_factory=Known)
    width: int = 2
    distance: Tensor | None = None


def ranks(values: Tensor, width: int = 2) -> Tensor:
    """(K·B,) → (K, B)."""
    return values.view(width, -1)


def sides(values: Tensor) -> tuple[Tensor, Tensor]:
    """(2B,) → winners (B,), losers (B,)."""
    winner, loser = values.chunk(2)
    return winner, loser


def join(parts: Sequence[Errors]) -> Errors:
    """Errors of several micro-batches as those of one batch, without gradient."""
    import torch

    width = parts[0].width

    def joined(values: Sequence[Tensor | None]) -> Tensor | None:
        present = [ranks(value.detach(), width) for value in values if value is not None]
        return torch.cat(present, dim=-1).reshape(-1) if present else None

    policy = joined([part.policy for part in parts])
    assert policy is not None
    return Errors(
        policy=policy,
        reference=joined([part.reference for part in parts]),
        cross=joined([part.cross for part in parts]),
        known=join_known([part.known for part in parts]),
        width=width,
        distance=joined([part.distance for part in parts]),
    )


def join_known(parts: Sequence[Known]) -> Known:
    """What is known of the items of several micro-batches, in order."""
    import torch

    found = {}
    for name in (entry.name for entry in fields(Known)):
        values = [getattr(part, name) for part in parts]
        found[name] = None if values[0] is None else torch.cat(values, dim=-1)
    return Known(**found)


def reference_of(errors: Errors) -> Tensor:
    """The reference's errors.

    Raises:
        RpoError: the errors were made without a reference.
    """
    if errors.reference is None:
        raise RpoError("this objective needs the reference's errors", "report this: the loop left them out")
    return errors.reference

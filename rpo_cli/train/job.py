"""A training while it runs: what it was asked for, what it has, and its reference's errors."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rpo_cli.config import TrainSettings
from rpo_cli.train.average import Average, beside
from rpo_cli.train.data.latents import Cache
from rpo_cli.train.diffusion import NoiseSchedule
from rpo_cli.train.distributed.process_group import ALONE, World
from rpo_cli.train.draws import (
    Draw,
    DrawSettings,
)
from rpo_cli.train.families.contract import Family
from rpo_cli.train.knowledge import Knowledge
from rpo_cli.train.look_ahead.plan import Ideal
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.policy import Policy
from rpo_cli.train.rankings import Item


@dataclass(frozen=True)
class References:
    """Kept errors, (uses, pictures of an item, items) float32; the best picture's first."""

    values: Tensor

    def of(self, draws: Sequence[Draw], device: str) -> Tensor:
        """Errors of drawn items, (K·B,) as in `terms.Errors`."""
        uses = torch.tensor([draw.use for draw in draws])
        items = torch.tensor([draw.pair for draw in draws])
        return self.values[uses, :, items].T.reshape(-1).to(device)


@dataclass(frozen=True)
class Job:
    """Everything a step reads and never changes.

    Attributes:
        beta: in the objective's own unit.
        starts_equal: whether the policy's first weights are its reference's.
        ideal: what an item takes at the device's peak; None where none is known.
    """

    settings: TrainSettings
    objective: Objective
    family: Family
    schedule: NoiseSchedule
    cache: Cache
    pairs: Sequence[Item]
    held_out: Sequence[Item]
    draws: DrawSettings
    device: str
    knowledge: Knowledge
    beta: float
    ideal: Ideal | None = None
    references: References | None = None  # of a training with fixed draws
    world: World = ALONE
    starts_equal: bool = True


@dataclass
class State:
    """What a step changes.

    Attributes:
        batch_size: shrinks when memory runs out; it is no part of the result.
        skipped: batches in a row, up to now, that were left out; 0 at a checkpoint.
    """

    policy: Policy
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    batch_size: int
    step: int = 0
    average: Average | None = None
    anchor: Average | None = None  # a reference that moves
    skipped: int = 0

    @property
    def compared(self) -> Policy:
        """The policy beside the reference that the loss is relative to."""
        return self.policy if self.anchor is None else beside(self.policy, self.anchor)

"""What is known of drawn items before any model runs: weights, labels, ratios, gains, features."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rpo_cli.train.data.pairs import Pair
from rpo_cli.train.data.singles import Single
from rpo_cli.train.diffusion import NoiseSchedule
from rpo_cli.train.draws import Draw
from rpo_cli.train.embeddings import Embeddings
from rpo_cli.train.objectives.errors import Known
from rpo_cli.train.objectives.objective import Objective
from rpo_cli.train.objectives.weights import (
    pair_weight,
    soft_label,
    step_divergence,
    step_ratios,
    timestep_weights,
    weight_scale,
)
from rpo_cli.train.rankings import Item, Ranking


@dataclass(frozen=True)
class Knowledge:
    """Answers for one training; `scale` makes the mean weight of its training pairs 1."""

    objective: Objective
    schedule: NoiseSchedule
    scale: float
    embeddings: Embeddings | None

    def of(self, draws: Sequence[Draw], items: Sequence[Item], device: str) -> Known:
        """Of the drawn items, as far as the objective asks."""
        drawn = [items[draw.pair] for draw in draws]
        pairs = [item for item in drawn if isinstance(item, Pair)]
        rankings = [item for item in drawn if isinstance(item, Ranking)]
        singles = [item for item in drawn if isinstance(item, Single)]
        timesteps = torch.tensor([draw.timestep for draw in draws])
        objective = self.objective
        labels = [soft_label(objective.soft_labels, pair) for pair in pairs]
        found = Known(
            weight=self._weight(pairs, timesteps),
            label=torch.tensor(labels) if objective.soft_labels != "none" else None,
            ratio=step_ratios(self.schedule, timesteps) if objective.clip else None,
            gains=torch.tensor([item.gains for item in rankings]).T.contiguous() if rankings else None,
            features=self.embeddings.of(pairs) if self.embeddings else None,
            good=torch.tensor([1.0 if item.good else -1.0 for item in singles]) if singles else None,
            noise=timesteps / self.schedule.steps,
            divergence=step_divergence(self.schedule, timesteps) if objective.needs_reference else None,
        )
        return Known(**{name: _moved(value, device) for name, value in vars(found).items()})

    def _weight(self, pairs: Sequence[Pair], timesteps: Tensor) -> Tensor | None:
        objective, weight = self.objective, None
        if objective.pair_weight != "none":
            weight = torch.tensor([pair_weight(objective.pair_weight, pair, self.scale) for pair in pairs])
        if objective.timestep_weight != "none":
            of_time = timestep_weights(objective.timestep_weight, self.schedule, timesteps)
            weight = of_time if weight is None else weight * of_time
        return weight


def knowledge(
    objective: Objective, schedule: NoiseSchedule, items: Sequence[Item], embeddings: Embeddings | None
) -> Knowledge:
    """For a training on `items`."""
    pairs = [item for item in items if isinstance(item, Pair)]
    return Knowledge(objective, schedule, weight_scale(objective.pair_weight, pairs), embeddings)


def _moved(value: Tensor | None, device: str) -> Tensor | None:
    return None if value is None else value.to(device)

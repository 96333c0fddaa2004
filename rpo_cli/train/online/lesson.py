"""From a round's rewards to what each of its pictures teaches."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from rpo_cli.config import OnlineSettings
from rpo_cli.train.journal import Numbers
from rpo_cli.train.objectives.online import OnlineObjective
from rpo_cli.train.online.credit import (
    TINY,
    Floats,
    Memory,
    best_and_worst,
    combined,
    expectation,
    seed_noise,
    standardised,
    value_gains,
)
from rpo_cli.train.online.rollout import Rollout
from rpo_cli.train.online.trajectory import Grid
from rpo_cli.train.policy import Average


@dataclass
class State:
    """What training changes, beside the policy's weights.

    Attributes:
        round: rounds that are done.
        step: optimiser steps that are done.
        images: pictures that were sampled. `scored`: pictures that rewards have seen, promised ones too.
        scales: of each reward when there are several: its noise over start seeds in the first round.
    """

    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    memory: Memory
    average: Average | None = None
    round: int = 0
    step: int = 0
    images: int = 0
    scored: int = 0
    scales: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Lesson:
    """What a round teaches.

    Attributes:
        items: places of the pictures of each item: (winner, loser), or (picture,).
        advantage: (S, items), of objectives that have one.
        numbers: of the rewards, for the log.
    """

    items: list[tuple[int, ...]]
    advantage: Tensor | None
    numbers: Numbers


def lesson(
    objective: OnlineObjective,
    online: OnlineSettings,
    beta: float,
    grid: Grid,
    rollout: Rollout,
    state: State,
) -> Lesson:
    """Rewards to advantages or pairs; updates the memory of rewards."""
    if not state.scales:
        several = len(rollout.scores) > 1
        state.scales = {
            name: max(seed_noise(values), TINY) if several else 1.0
            for name, values in rollout.scores.items()
        }
    rewards = combined(rollout.scores, state.scales)
    numbers = {
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "reward_noise": seed_noise(rewards),
        **{f"reward_{name}": float(values.mean()) for name, values in rollout.scores.items()},
    }
    if objective.paired:
        pairs = best_and_worst(rewards, objective.min_margin or 0.0)
        numbers["pairs"], numbers["pairs_within_noise"] = len(pairs), len(rewards) - len(pairs)
        return Lesson([*pairs], None, numbers)
    advantage = _advantage(objective, beta, grid, rollout, rewards, state)
    return Lesson([(place,) for place in range(rewards.size)], torch.from_numpy(advantage).float(), numbers)


def _advantage(
    objective: OnlineObjective, beta: float, grid: Grid, rollout: Rollout, rewards: Floats, state: State
) -> Floats:
    """(S, M) float64."""
    assert objective.baseline is not None
    assert objective.advantage_clip is not None
    keys = [key for key, _ in rollout.prompts]
    mean, spread = expectation(objective.baseline, keys, rewards, state.memory)
    limit, steps = objective.advantage_clip, len(grid)
    if not objective.values:
        whole = standardised(rewards, mean, spread, limit).reshape(1, -1)
        return np.repeat(whole, steps, axis=0)
    expected = np.broadcast_to(mean, rewards.shape).reshape(-1)
    times = grid.times.double().numpy() / grid.steps_in_training
    promised = combined(rollout.promised, state.scales)
    return value_gains(
        promised, rewards.reshape(-1), expected, times, running_cost(grid, rollout, beta), limit
    )


def running_cost(grid: Grid, rollout: Rollout, beta: float) -> Floats:
    """(β/2) ∫ g² mean|s_θ − s_pre|² dt of every step, (S, M), with s = −ε/√(1 − ᾱ_t)."""
    deviation = rollout.trajectories.deviation
    assert deviation is not None
    of_score = deviation / (1 - grid.alpha)[:, None]
    found: Floats = (0.5 * beta * grid.spent_noise()[:, None] * of_score).double().numpy()
    return found

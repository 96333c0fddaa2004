"""Who gets the credit: rewards to advantages, to pairs, or to a value at every step. numpy, no model.

Rewards come as (P, N): P prompts, N pictures of each from N start seeds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rpo_cli.config import Baseline

Floats = NDArray[np.float64]
TINY = 1e-6  # beside a standard deviation; DDPO's


@dataclass
class Memory:
    """The last rewards of each prompt, oldest first.

    Attributes:
        size: rewards that are kept of a prompt; until it has so many, the batch's statistics count.
    """

    size: int
    rewards: dict[str, list[float]] = field(default_factory=dict)

    def add(self, prompt: str, rewards: Sequence[float]) -> None:
        self.rewards[prompt] = [*self.rewards.get(prompt, ()), *rewards][-self.size :]

    def of(self, prompt: str) -> list[float] | None:
        """None: too few to judge by."""
        found = self.rewards.get(prompt, [])
        return found if len(found) >= self.size else None


def expectation(
    kind: Baseline, prompts: Sequence[str], rewards: Floats, memory: Memory
) -> tuple[Floats, Floats]:
    """Mean and standard deviation that each prompt's rewards are compared with, (P, 1) each.

    "batch": of all pictures of this round. "prompt": of the prompt's own. "running": of the prompt's last
    `memory.size`, this round's among them, and of the batch until there are so many. The spread is the
    population's. Source: per-prompt statistics, Black et al. 2023, arXiv:2305.13301, appendix.
    """
    means, spreads = [], []
    for prompt, own in zip(prompts, rewards, strict=True):
        memory.add(prompt, own.tolist())
        known: Floats = own if kind == "prompt" else rewards
        if kind == "running" and (kept := memory.of(prompt)) is not None:
            known = np.asarray(kept)
        means.append(float(known.mean()))
        spreads.append(float(known.std()))
    return np.asarray(means)[:, None], np.asarray(spreads)[:, None]


def standardised(rewards: Floats, mean: Floats, spread: Floats, limit: float) -> Floats:
    """(R − mean)/(spread + 1e-6), held within ±limit; equal rewards give 0."""
    found: Floats = np.clip((rewards - mean) / (spread + TINY), -limit, limit)
    return found


def seed_noise(rewards: Floats) -> float:
    """Standard deviation of a reward over start seeds of one prompt, pooled over the prompts."""
    return float(math.sqrt(np.mean(np.var(rewards, axis=1, ddof=1))))


def best_and_worst(rewards: Floats, min_margin: float) -> list[tuple[int, int]]:
    """Places p·N + i of winner and loser of every prompt whose gap exceeds the noise over start seeds.

    A gap is counted in pooled standard deviations; equal rewards never make a pair. Of equal bests the
    first is taken.
    """
    noise, count = seed_noise(rewards), rewards.shape[1]
    found = []
    for prompt, own in enumerate(rewards):
        best, worst = int(own.argmax()), int(own.argmin())
        gap = own[best] - own[worst]
        if gap > 0 and gap >= min_margin * noise:
            found.append((prompt * count + best, prompt * count + worst))
    return found


def value_gains(
    promised: Floats, final: Floats, expected: Floats, times: Floats, cost: Floats, limit: float
) -> Floats:
    """Advantage of every step, (S, M): what it adds to the value less its running cost, standardised.

    V(t, x_t) = cos(πt/2T)·R(x̂_0(x_t)) + sin(πt/2T)·b, so V = R at the end and b at pure noise; the step
    from t to its successor has A = V(next) − V(t) − cost. b is the prompt's mean reward, the constant that
    a value network fitted by squared error would start from. Mean and spread are those of all steps.
    Source: Score as Action, arXiv:2502.01819.

    Args:
        promised: R of the estimate of x_0 at every step, (S, M). `final`: R, (M,). `expected`: b, (M,).
        times: t/T, (S,). `cost`: (S, M).
    """
    angle = (0.5 * math.pi * times)[:, None]
    values = np.cos(angle) * promised + np.sin(angle) * expected
    gains = np.diff(np.concatenate([values, final[None]]), axis=0) - cost
    return standardised(gains, gains.mean(), gains.std(), limit)


def combined(scores: Mapping[str, Floats], scales: Mapping[str, float]) -> Floats:
    """Mean of several rewards, each divided by its scale."""
    parts = [np.asarray(values) / scales[name] for name, values in scores.items()]
    found: Floats = np.mean(parts, axis=0)
    return found

"""Losses of sampled steps: pure functions of log-ratios, un-reduced.

ℓ: (steps, width, items), per element; width 1 for a picture, 2 for winner and loser of a pair.
"""

import math

import torch
from torch import Tensor

from rpo_cli.train.objectives.objective import LINKS
from rpo_cli.train.objectives.online import OnlineObjective


def losses(objective: OnlineObjective, log_ratio: Tensor, advantage: Tensor | None, beta: float) -> Tensor:
    """One loss per step and item, (steps, items); of a summed pair one per item, (1, items).

    Args:
        advantage: (steps, items), of the objectives that have one.
    """
    if objective.form == "advantage":
        assert advantage is not None
        return clipped_gain(log_ratio[:, 0], advantage, objective.clip)
    held = bounded(objective, log_ratio)
    logit = beta * (held[:, 0] - held[:, 1])
    if objective.form == "pair":
        logit = logit.sum(0, keepdim=True)
    return LINKS[objective.link](logit)


def clipped_gain(log_ratio: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """max(−Aρ, −A·clamp(ρ, 1 − ϵ, 1 + ϵ)), ρ = e^ℓ: a step that has gone the wrong way keeps its gradient.

    Source: Schulman et al. 2017, arXiv:1707.06347, eq. 7.
    """
    ratio = log_ratio.exp()
    return (-advantage * ratio).maximum(-advantage * ratio.clamp(1 - clip, 1 + clip))


def bounded(objective: OnlineObjective, log_ratio: Tensor) -> Tensor:
    """ℓ̃, (steps, 2, items): PPO's min with A = ±1 on the log-ratio, or the bare clamp.

    Pessimistic: min(ℓ_w, log(1 + ϵ)) and max(ℓ_l, log(1 − ϵ)). Plain, as D3PO ships it: both clamped both
    ways, so that a side gone the wrong way beyond the band gets no gradient back.
    """
    below, above = math.log1p(-objective.clip), math.log1p(objective.clip)
    if objective.bounded == "plain":
        return log_ratio.clamp(below, above)
    winner, loser = log_ratio.unbind(1)
    return torch.stack([winner.clamp(max=above), loser.clamp(min=below)], dim=1)


def beyond_shares(
    objective: OnlineObjective, log_ratio: Tensor, advantage: Tensor | None
) -> dict[str, Tensor]:
    """Share of steps beyond the band by side and direction; "good" is the way the loss pulls.

    Of an advantage the sides are "better" (A > 0) and "worse" (A < 0), as shares of all steps.
    """
    below, above = math.log1p(-objective.clip), math.log1p(objective.clip)
    if objective.paired:
        up, down = log_ratio.unbind(1)
        sides = {"winner": (up, True), "loser": (down, False)}
        return {
            f"{side}_beyond_{word}": (ratio > above if good == rises else ratio < below).float().mean()
            for side, (ratio, rises) in sides.items()
            for word, good in (("good", True), ("bad", False))
        }
    assert advantage is not None
    ratio = log_ratio[:, 0]
    better, worse = advantage > 0, advantage < 0
    return {
        "better_beyond_good": (better & (ratio > above)).float().mean(),
        "better_beyond_bad": (better & (ratio < below)).float().mean(),
        "worse_beyond_good": (worse & (ratio < below)).float().mean(),
        "worse_beyond_bad": (worse & (ratio > above)).float().mean(),
    }

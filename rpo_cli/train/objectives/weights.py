"""Weights and soft labels: of a pair by its row, of a timestep by its noise, of a loss in its group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rpo_cli.config import PairWeight, SoftLabels, TimestepWeight
from rpo_cli.train.data.pairs import TrainingPair

if TYPE_CHECKING:
    from torch import Tensor

    from rpo_cli.train.diffusion import NoiseSchedule

# weight or label → the column of the dataset that it is made from
COLUMNS = {
    "dispersion": "dispersion",
    "margin": "margin",
    "smooth-margin": "margin",
    "agreement": "agreement",
    "share": "share_0",
}
CERTAIN = 1e-3  # dispersions are held this far from 0 and 1
LIGHTEST, HEAVIEST = 0.2, 5.0
MIN_SNR = 5.0  # γ of Hang et al. 2023, arXiv:2303.09556
SMOOTH_SCALE = 10.0  # SmPO's


def raw_weight(kind: PairWeight, pair: TrainingPair) -> float:
    """A pair's weight before it is scaled to a mean of 1.

    dispersion: −ln D, after Mallows-DPO. margin, agreement: themselves. smooth-margin: 10(2p − 1) with
    p = σ(margin), which is not scaled.
    """
    if kind == "none":
        return 1.0
    value = value_of(pair, COLUMNS[kind])
    if kind == "dispersion":
        return -math.log(min(max(value, CERTAIN), 1 - CERTAIN))
    if kind == "smooth-margin":
        return SMOOTH_SCALE * math.tanh(value / 2)
    return value


def weight_scale(kind: PairWeight, pairs: Sequence[TrainingPair]) -> float:
    """What makes the mean weight of the training pairs 1."""
    if kind in ("none", "smooth-margin"):
        return 1.0
    total = math.fsum(raw_weight(kind, pair) for pair in pairs)
    return len(pairs) / total if total > 0 else 1.0


def pair_weight(kind: PairWeight, pair: TrainingPair, scale: float) -> float:
    """The multiplier of a pair's logit; scaled ones are held in [0.2, 5]."""
    weight = scale * raw_weight(kind, pair)
    return weight if kind in ("none", "smooth-margin") else min(max(weight, LIGHTEST), HEAVIEST)


def soft_label(kind: SoftLabels, pair: TrainingPair) -> float:
    """Probability that the winner is the better one: a share of rewards or of judges, or σ(margin)."""
    if kind == "share":
        return value_of(pair, "share")
    if kind == "margin":
        return 1 / (1 + math.exp(-value_of(pair, "margin")))
    return value_of(pair, "agreement") if kind == "agreement" else 1.0


def value_of(pair: TrainingPair, column: str) -> float:
    value: float | None = getattr(pair, column)
    assert value is not None, f"{column} was not read"
    return value


def timestep_weights(kind: TimestepWeight, schedule: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """(N,) float32, for errors on the model's own target.

    "snr": the error of the implied x_0 times SNR, which is the error of the implied ε. "min-snr": times
    min(SNR, 5).
    """
    weight = epsilon_error_per_target_error(schedule)
    if kind == "min-snr":
        weight = weight * (MIN_SNR / snr_of(schedule)).clamp(max=1)
    return weight[timesteps].float()


def step_ratios(schedule: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """(N,) float32: (SNR_{t−1}/SNR_t − 1) · (error of ε per error of the model's own target), 0 < t < T−1.

    Minus half of it times m − r is the expected log-ratio per element of the step t → t−1.
    """
    snr = snr_of(schedule)
    gain = snr[timesteps - 1] / snr[timesteps] - 1
    return (gain * epsilon_error_per_target_error(schedule)[timesteps]).float()


def step_divergence(schedule: NoiseSchedule, timesteps: Tensor) -> Tensor:
    """(N,) float32: ½(SNR_{t−1}/SNR_t − 1) in units of the model's target; NaN at the first and last t.

    Times the mean squared distance of two predictions it is the KL divergence, per element, between the
    DDPM posteriors that they make of the step t → t−1 (Ho et al. 2020, arXiv:2006.11239, eq. 7 and 8).
    """
    inner = (timesteps > 0) & (timesteps < schedule.steps - 1)
    found = 0.5 * step_ratios(schedule, timesteps.clamp(min=1))
    return found.masked_fill(~inner, float("nan"))


def snr_of(schedule: NoiseSchedule) -> Tensor:
    """α²/σ² of every training timestep, (T,) float64."""
    return (schedule.alpha.double() / schedule.sigma.double()).square()


def epsilon_error_per_target_error(schedule: NoiseSchedule) -> Tensor:
    """(T,) float64, at a given x_t: 1 for ε, α² for v and for flow, SNR for x_0."""
    import torch

    if schedule.prediction_type == "epsilon":
        return torch.ones(schedule.steps, dtype=torch.float64)
    return snr_of(schedule) if schedule.prediction_type == "sample" else schedule.alpha.double().square()


def importance(losses: Tensor, group: int, temperature: float, trim: float) -> Tensor:
    """(B,) weights of mean 1 in every group: exp(loss/λ), the highest `trim` of a group at 0; no gradient.

    The items of a group share their timestep, and a softmax does not see a common offset: so the losses
    are centred per timestep without a running mean. Source: IR-DRO, arXiv:2402.14270.
    """
    import torch

    grouped = losses.detach().view(-1, group)
    kept = group - int(trim * group)
    order = grouped.argsort(dim=1, stable=True).argsort(dim=1)
    exponent = (grouped / temperature).masked_fill(order >= kept, -torch.inf)
    return (group * torch.softmax(exponent, dim=1)).view_as(losses)

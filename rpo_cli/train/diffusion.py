"""The forward process and its per-image error: x_t = α_t x_0 + σ_t ε, and what the model should say.

Source: Ho et al. 2020, arXiv:2006.11239 (ε); Salimans & Ho 2022, arXiv:2202.00512 (v = α ε − σ x_0);
Esser et al. 2024, arXiv:2403.03206 (rectified flow: α = 1 − σ, target ε − x_0).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class NoiseSchedule:
    """α_t and σ_t of every training timestep, (T,) float32 each, and what the model predicts.

    Attributes:
        prediction_type: of the model's output; "flow" is ε − x_0.
        told: what the denoiser is told at each timestep, (T,) float32; None: its index.
    """

    alpha: Tensor
    sigma: Tensor
    prediction_type: PredictionType
    told: Tensor | None = None

    @classmethod
    def from_alphas_cumprod(
        cls, alphas_cumprod: Tensor, prediction_type: PredictionType
    ) -> "NoiseSchedule":
        """From a scheduler's own table (zero terminal SNR and trained betas included)."""
        squared = alphas_cumprod.float().cpu()
        return cls(squared.sqrt(), (1 - squared).sqrt(), prediction_type)

    @classmethod
    def from_sigmas(cls, sigmas: Tensor, told: Tensor) -> "NoiseSchedule":
        """A flow, from the tables of its scheduler; here too a later timestep is a noisier one."""
        order = sigmas.argsort()
        levels = sigmas[order].float().cpu()
        return cls(1 - levels, levels, "flow", told[order].float().cpu())

    @property
    def steps(self) -> int:
        return len(self.alpha)

    def at(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """α and σ of `timesteps` (N,), shaped (N, 1, 1, 1)."""
        index = timesteps.to(self.alpha.device)
        return self.alpha[index].view(-1, 1, 1, 1), self.sigma[index].view(-1, 1, 1, 1)

    def times(self, timesteps: Tensor) -> Tensor:
        """What the denoiser is told at `timesteps` (N,)."""
        return timesteps if self.told is None else self.told.to(timesteps.device)[timesteps]


def shifted(schedule: NoiseSchedule, factor: float) -> NoiseSchedule:
    """The same flow with more of its timesteps at high noise: σ' = fσ / (1 + (f − 1)σ)."""
    assert schedule.told is not None
    sigma = schedule.sigma.double()
    moved = factor * sigma / (1 + (factor - 1) * sigma)
    told = schedule.told.double() * moved / sigma  # the levels times T
    return NoiseSchedule((1 - moved).float(), moved.float(), schedule.prediction_type, told.float())


def logit_normal(schedule: NoiseSchedule) -> NoiseSchedule:
    """The same flow with its timesteps at the quantiles of a logit-normal: drawn uniformly, it is one.

    u = sigmoid(z), z ~ N(0, 1), before the scheduler's shift. Source: Esser et al. 2024, arXiv:2403.03206.
    """
    steps = schedule.steps
    quantiles = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    place = torch.sigmoid(torch.special.ndtri(quantiles)) * steps - 0.5

    def at(table: Tensor) -> Tensor:
        below = place.floor().long().clamp(0, steps - 2)
        share = (place - below).clamp(0, 1)
        values = table.double()
        return (values[below] * (1 - share) + values[below + 1] * share).float()

    assert schedule.told is not None
    sigma = at(schedule.sigma)
    return NoiseSchedule(1 - sigma, sigma, schedule.prediction_type, at(schedule.told))


def add_noise(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """x_t, (N, C, H, W) float32."""
    alpha, sigma = schedule.at(timesteps)
    return alpha * latents + sigma * noise


def target(schedule: NoiseSchedule, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
    """What the model is asked for at x_t: ε, v, x_0 or ε − x_0, (N, C, H, W) float32."""
    if schedule.prediction_type == "epsilon":
        return noise
    if schedule.prediction_type == "sample":
        return latents
    if schedule.prediction_type == "flow":
        return noise - latents
    alpha, sigma = schedule.at(timesteps)
    return alpha * noise - sigma * latents


def image_errors(prediction: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error over C, H, W, one float32 per image, (N,).

    Cast before the subtraction: a reduction in half precision makes logits of ±0.5 out of equal models.
    """
    return (prediction.float() - wanted.float()).square().mean(dim=(1, 2, 3))


def cross_errors(prediction: Tensor, other: Tensor, wanted: Tensor) -> Tensor:
    """Mean over C, H, W of the product of two predictions' residuals, one float32 per image, (N,)."""
    wanted = wanted.float()
    return ((prediction.float() - wanted) * (other.float() - wanted)).mean(dim=(1, 2, 3))


def seeded(seed: int) -> torch.Generator:
    """A CPU generator: draws do not depend on the device that trains."""
    return torch.Generator("cpu").manual_seed(seed)

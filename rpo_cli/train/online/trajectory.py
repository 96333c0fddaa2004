"""Stochastic DDIM with the probability of every step, over the model's own noise schedule.

A step is Gaussian: x_{t−1} ~ N(μ_θ(x_t), σ_t² I), σ_t = η √((1−ᾱ_{t−1})/(1−ᾱ_t) · (1 − ᾱ_t/ᾱ_{t−1})).
Its log-probability is the MEAN over C, H, W, as in DDPO's code, so that it does not grow with the picture.
Source: Song et al. 2021, arXiv:2010.02502, eq. 12 and 16; Black et al. 2023, arXiv:2305.13301.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from rpo_cli.errors import UsageError
from rpo_cli.train.families.family import Condition, Family
from rpo_cli.train.noise import PredictionType, seeded
from rpo_cli.train.policy import Policy

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# a schedule with zero terminal SNR starts at ᾱ = 0, where the integral of g² is infinite
SMALLEST_ALPHA = 1e-8


@dataclass(frozen=True)
class Grid:
    """The denoising steps, noisiest first, as diffusers' DDIMScheduler places them.

    Attributes:
        times: (S,) int64, training timesteps.
        alpha, alpha_next: ᾱ before and after each step, (S,) float32.
        sigma: standard deviation of each step, (S,) float32; 0: the step is certain and has no density.
        prediction_type: of the model's output.
        eta: η; 0 is the deterministic DDIM.
        steps_in_training: T of the noise schedule.
    """

    times: Tensor
    alpha: Tensor
    alpha_next: Tensor
    sigma: Tensor
    prediction_type: PredictionType
    eta: float
    steps_in_training: int

    @classmethod
    def of(cls, config: Mapping[str, Any], steps: int, eta: float) -> "Grid":
        """From a scheduler's configuration (spacing, offset and ends included).

        The estimate of x_0 is not clipped, whatever the configuration says: latents have no range.

        Raises:
            UsageError: more steps than the schedule has.
        """
        scheduler: Any = DDIMScheduler.from_config(dict(config), clip_sample=False, thresholding=False)
        scheduler.set_timesteps(steps)
        times = scheduler.timesteps.long().cpu()
        count = int(scheduler.config.num_train_timesteps)
        if int(times.max()) >= count:
            raise UsageError(
                f"{steps} denoising steps: the model's schedule has {count}", "give fewer online.steps"
            )
        before = scheduler.alphas_cumprod.float()
        following = times - count // steps
        alpha = before[times]
        final = scheduler.final_alpha_cumprod.float()
        alpha_next = torch.where(following >= 0, before[following.clamp(min=0)], final)
        variance = ((1 - alpha_next) / (1 - alpha)) * (1 - alpha / alpha_next)
        kind = scheduler.config.prediction_type
        return cls(times, alpha, alpha_next, eta * variance.clamp(min=0) ** 0.5, kind, eta, count)

    def __len__(self) -> int:
        return len(self.times)

    @property
    def random_steps(self) -> list[int]:
        """The steps that have a density: those a policy can be taught by."""
        return [index for index, sigma in enumerate(self.sigma.tolist()) if sigma > 0]

    def spent_noise(self) -> Tensor:
        """∫ g² dt over each step, (S,): g² dt = −d log ᾱ for the variance-preserving SDE.

        Source: Song et al. 2021, arXiv:2011.13456, eq. 11 (β(t) there).
        """
        return torch.log(self.alpha_next / self.alpha.clamp(min=SMALLEST_ALPHA))


class Step(NamedTuple):
    """What a prediction says at one step, (N, C, h, w) float32 each: μ, the estimate of x_0, and of ε."""

    mean: Tensor
    denoised: Tensor
    noise: Tensor


def step_of(grid: Grid, index: int, latents: Tensor, prediction: Tensor) -> Step:
    """The Gaussian step's mean from the model's prediction at x_t; in the order of diffusers' own sums."""
    alpha, following = grid.alpha[index].to(latents.device), grid.alpha_next[index].to(latents.device)
    sigma, beta = grid.sigma[index].to(latents.device), 1 - alpha
    if grid.prediction_type == "v_prediction":
        denoised = (alpha**0.5) * latents - (beta**0.5) * prediction
        noise = (alpha**0.5) * prediction + (beta**0.5) * latents
    elif grid.prediction_type == "sample":
        denoised = prediction
        noise = (latents - alpha ** (0.5) * denoised) / beta ** (0.5)
    else:
        denoised = (latents - beta ** (0.5) * prediction) / alpha ** (0.5)
        noise = prediction
    direction = (1 - following - sigma**2).clamp(min=0) ** (0.5) * noise
    return Step(following ** (0.5) * denoised + direction, denoised, noise)


def log_probability(grid: Grid, index: int, mean: Tensor, following: Tensor) -> Tensor:
    """log N(x_{t−1}; μ, σ_t² I) per element, (N,) float32; NaN where the step is certain."""
    sigma = grid.sigma[index].to(mean.device)
    if not float(sigma):
        return mean.new_full((len(mean),), math.nan)
    squared = ((following - mean) / sigma).square().mean(dim=(1, 2, 3))
    return -0.5 * squared - sigma.log() - HALF_LOG_2PI


def step_kl(grid: Grid, index: int, mean: Tensor, other: Tensor) -> Tensor:
    """KL of two Gaussian steps of one spread, per element, (N,): mean (μ − μ')² / (2 σ_t²)."""
    return 0.5 * ((mean - other) / grid.sigma[index].to(mean.device)).square().mean(dim=(1, 2, 3))


@dataclass(frozen=True)
class Sampler:
    """How a policy draws: its steps, its guidance, and where.

    Attributes:
        guidance: w of ε_u + w (ε_c − ε_u); at most 1: the prompt's prediction alone, as in diffusers.
        shape: (C, h, w) of the latents.
    """

    policy: Policy
    family: Family
    grid: Grid
    guidance: float
    shape: tuple[int, int, int]
    device: str

    def predict(self, unet: nn.Module, latents: Tensor, index: int, condition: Condition) -> Tensor:
        """The guided prediction at a step, (N, C, h, w) float32.

        `condition` is that of `both`, (2N, ...) with guidance. Sampling and learning call this with one
        batch shape, so that equal weights give equal bits.
        """
        guided = self.guidance > 1
        noisy = torch.cat([latents, latents]) if guided else latents
        noisy = noisy.contiguous(memory_format=self.policy.layout)
        times = self.grid.times[index].to(self.device).expand(len(noisy))
        with self.policy.autocast():
            output = self.family.predict(unet, noisy, times, condition).float().contiguous()
        if not guided:
            return output
        without, prompted = output.chunk(2)
        return without + self.guidance * (prompted - without)

    def both(self, condition: Condition, empty: Condition) -> Condition:
        """The condition of a forward pass: the negative prompt's branch first, when there is guidance.

        Args:
            condition: (N, ...) of the prompts. `empty`: (1, ...) of the negative prompt.
        """
        if self.guidance <= 1:
            return {part: value.to(self.device) for part, value in condition.items()}
        return {
            part: torch.cat([empty[part].expand(len(value), *empty[part].shape[1:]), value]).to(self.device)
            for part, value in condition.items()
        }


@dataclass(frozen=True)
class Trajectories:
    """What sampling leaves behind, on the CPU in float32; S steps of N pictures.

    Attributes:
        latents: x_T to x_0, (S + 1, N, C, h, w).
        means: μ of each step, (S, N, C, h, w).
        log_probabilities: per element, (S, N); NaN at certain steps.
        denoised: estimate of x_0 at each step, (S, N, C, h, w), when it was asked for.
        reference_means: μ of the reference at the same x_t, (S, N, C, h, w), when it was asked for.
        deviation: mean squared difference of both estimates of ε, (S, N), with the reference.
    """

    latents: Tensor
    means: Tensor
    log_probabilities: Tensor
    denoised: Tensor | None = None
    reference_means: Tensor | None = None
    deviation: Tensor | None = None


@torch.no_grad()
def sample(
    sampler: Sampler,
    condition: Condition,
    seeds: Sequence[int],
    *,
    with_denoised: bool = False,
    with_reference: bool = False,
) -> Trajectories:
    """Draw one picture per seed, in one batch.

    A row has a generator of its own, for its start and for each step, so it depends on its seed, its
    prompt and the size of the batch, never on its neighbours.

    Args:
        condition: of `Sampler.both`.
    """
    generators = [seeded(seed) for seed in seeds]
    latents = _noise(sampler, generators)
    kept: dict[str, list[Tensor]] = {"latents": [latents.cpu()]}
    for index in range(len(sampler.grid)):
        said = step_of(
            sampler.grid, index, latents, sampler.predict(sampler.policy.unet, latents, index, condition)
        )
        following = said.mean
        if sampler.grid.eta:
            following = said.mean + sampler.grid.sigma[index].to(latents.device) * _noise(
                sampler, generators
            )
        found = {
            "latents": following,
            "means": said.mean,
            "log_probabilities": log_probability(sampler.grid, index, said.mean, following),
        }
        if with_denoised:
            found["denoised"] = said.denoised
        if with_reference:
            with sampler.policy.reference() as unet:
                theirs = sampler.predict(unet, latents, index, condition)
            other = step_of(sampler.grid, index, latents, theirs)
            found["reference_means"] = other.mean
            found["deviation"] = (said.noise - other.noise).square().mean(dim=(1, 2, 3))
        for name, value in found.items():
            kept.setdefault(name, []).append(value.cpu())
        latents = following
    return Trajectories(**{name: torch.stack(values) for name, values in kept.items()})


def _noise(sampler: Sampler, generators: Sequence[torch.Generator]) -> Tensor:
    """A row of noise from each generator, (N, C, h, w)."""
    rows = [torch.randn(sampler.shape, generator=generator) for generator in generators]
    return torch.stack(rows).to(sampler.device)

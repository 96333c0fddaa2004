"""The noise of training: the forward process x_t = α_t x_0 + σ_t ε, and what chance decides of each item.

Source: Ho et al. 2020, arXiv:2006.11239 (ε); Salimans & Ho 2022, arXiv:2202.00512 (v = α ε − σ x_0);
Esser et al. 2024, arXiv:2403.03206 (rectified flow: α = 1 − σ, target ε − x_0).

Every random choice is a pure function of (seed, step, position): no RNG has state. So a resumed run makes
the choices an undisturbed one would have made, and how a step is split into forward passes changes nothing.
A draw belongs to a pair: winner and loser share all of it.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from rpo_cli.records import row_seed

PredictionType = Literal["epsilon", "v_prediction", "sample", "flow"]


@dataclass(frozen=True)
class NoiseSchedule:
    """α_t and σ_t of every training timestep, (T,) float32 each, and what the model predicts.

    Attributes:
        prediction_type: of the model's output; "flow" is ε − x_0.
        model_times: what the denoiser is told at each timestep, (T,) float32; None: its index.
    """

    alpha: Tensor
    sigma: Tensor
    prediction_type: PredictionType
    model_times: Tensor | None = None

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
        return timesteps if self.model_times is None else self.model_times.to(timesteps.device)[timesteps]


def shifted(schedule: NoiseSchedule, factor: float) -> NoiseSchedule:
    """The same flow with more of its timesteps at high noise: σ' = fσ / (1 + (f − 1)σ)."""
    assert schedule.model_times is not None
    sigma = schedule.sigma.double()
    moved = factor * sigma / (1 + (factor - 1) * sigma)
    told = schedule.model_times.double() * moved / sigma  # the levels times T
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

    assert schedule.model_times is not None
    sigma = at(schedule.sigma)
    return NoiseSchedule(1 - sigma, sigma, schedule.prediction_type, at(schedule.model_times))


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


@dataclass(frozen=True)
class Draw:
    """What chance decides about one use of one pair.

    Attributes:
        pair: index of the pair in its split.
        noise: ε, (C, H, W) float32.
        posterior: the VAE's sampling noise, (C, H, W) float32: x_0 = mean + std · posterior.
        flip: mirror both pictures.
        use: which of a pair's fixed draws it is; None: drawn for this step and position alone.
        drop_caption: train this pair on the empty caption.
    """

    pair: int
    timestep: int
    noise: Tensor
    posterior: Tensor
    flip: bool
    drop_caption: bool
    use: int | None = None


@dataclass(frozen=True)
class DrawSettings:
    """What the draws of one split depend on, beside step and position.

    Attributes:
        pairs: items of the split.
        first, last: the band of timesteps, both inclusive; last None: up to the noisiest.
        discount: γ; a timestep's density is γ^(50·(1 − t/T)), uniform at 1.
        group: consecutive positions that share their timestep, or timestep and noise, as `shared` says.
        uses: fixed draws of a pair, taken in turn epoch by epoch; 0: every use has its own.
    """

    seed: int
    pairs: int
    timesteps: int
    shape: tuple[int, int, int]
    flip: bool
    caption_dropout: float
    first: int = 0
    last: int | None = None
    discount: float = 1.0
    group: int = 1
    shared: Literal["none", "timestep", "noise"] = "none"
    uses: int = 0


def training_draw(settings: DrawSettings, step: int, position: int, global_batch: int) -> Draw:
    """The draw at `position` in [0, global_batch) of optimiser step `step`."""
    pair = drawn_pair(settings, step, position, global_batch)
    if settings.uses:
        epoch = (step * global_batch + position) // settings.pairs
        return fixed_draw(settings, pair, epoch % settings.uses)
    return _draw(
        settings, pair, ("train", step, position), ("train group", step, position // settings.group)
    )


def fixed_draw(settings: DrawSettings, pair: int, use: int) -> Draw:
    """Draw `use` of a pair: the same at every step and position. No group shares it."""
    alone = replace(settings, group=1, shared="none")
    return replace(_draw(alone, pair, ("fixed", pair, use), ()), use=use)


def drawn_pair(settings: DrawSettings, step: int, position: int, global_batch: int) -> int:
    """The pair of a draw.

    Pairs come in epochs: each is used once before any is used again, in an order that is new every epoch.
    """
    epoch, place = divmod(step * global_batch + position, settings.pairs)
    return epoch_order(settings.seed, epoch, settings.pairs)[place]


def validation_draw(settings: DrawSettings, item: int) -> Draw:
    """The draw of validation item `item`: always the same, never mirrored, captionless or discounted."""
    fixed = replace(settings, flip=False, caption_dropout=0.0, discount=1.0)
    group = ("validation group", item // settings.group)
    return _draw(fixed, item % settings.pairs, ("validation", item), group)


def _draw(
    settings: DrawSettings, pair: int, name: tuple[str | int, ...], group: tuple[str | int, ...]
) -> Draw:
    generator = seeded(row_seed(settings.seed, *name))
    flip, drop = torch.rand(2, generator=generator).tolist()
    timestep = _timestep(settings, generator)
    noise = torch.randn(settings.shape, generator=generator)
    posterior = torch.randn(settings.shape, generator=generator)
    if settings.shared != "none":
        common = seeded(row_seed(settings.seed, *group))
        timestep = _timestep(settings, common)
        if settings.shared == "noise":
            noise = torch.randn(settings.shape, generator=common)
    return Draw(
        pair=pair,
        timestep=timestep,
        noise=noise,
        posterior=posterior,
        flip=settings.flip and flip < 0.5,
        drop_caption=drop < settings.caption_dropout,
    )


def _timestep(settings: DrawSettings, generator: torch.Generator) -> int:
    last = settings.timesteps - 1 if settings.last is None else settings.last
    if settings.discount == 1:
        return settings.first + int(torch.randint(last - settings.first + 1, (1,), generator=generator))
    cumulated = _cumulated(settings.first, last, settings.timesteps, settings.discount)
    place = torch.rand(1, generator=generator, dtype=torch.float64) * cumulated[-1]
    return settings.first + int(
        torch.searchsorted(cumulated, place, right=True).clamp(max=last - settings.first)
    )


@lru_cache(maxsize=2)
def _cumulated(first: int, last: int, timesteps: int, discount: float) -> Tensor:
    """Running sum of γ^(50·(1 − t/T)) over the band; 50 denoising steps, as in arXiv:2402.08265."""
    times = torch.arange(first, last + 1, dtype=torch.float64)
    return torch.cumsum(discount ** (50 * (1 - times / timesteps)), dim=0)


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, pairs: int) -> list[int]:
    """A permutation of range(pairs)."""
    order: list[int] = torch.randperm(pairs, generator=seeded(row_seed(seed, "epoch", epoch))).tolist()
    return order

"""The forward process against diffusers' own schedulers and against theory."""

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from rpo_cli.train.noise import NoiseSchedule, add_noise, image_errors, logit_normal, target
from tests.closeness import assert_close

CONFIGS = {
    "sd15": {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"},
    "zero_terminal_snr": {"beta_schedule": "scaled_linear", "rescale_betas_zero_snr": True},
}


def of(scheduler, kind="epsilon") -> NoiseSchedule:
    return NoiseSchedule.from_alphas_cumprod(scheduler.alphas_cumprod, kind)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 5, 4, 6, 6, generator=generator)
    return latents, noise, torch.tensor([0, 1, 500, 998, 999])


@pytest.mark.parametrize("config", CONFIGS)
def test_noised_latents_are_those_of_diffusers(config, batch):
    scheduler = DDPMScheduler(**CONFIGS[config])
    latents, noise, timesteps = batch
    ours = add_noise(of(scheduler), latents, noise, timesteps)
    assert_close(ours, scheduler.add_noise(latents, noise, timesteps))


@pytest.mark.parametrize("config", CONFIGS)
def test_velocity_is_that_of_diffusers(config, batch):
    scheduler = DDPMScheduler(**CONFIGS[config])
    latents, noise, timesteps = batch
    ours = target(of(scheduler, "v_prediction"), latents, noise, timesteps)
    assert_close(ours, scheduler.get_velocity(latents, noise, timesteps))


def test_epsilon_is_the_noise_and_sample_the_latents(batch):
    scheduler = DDPMScheduler()
    latents, noise, timesteps = batch
    assert target(of(scheduler), latents, noise, timesteps) is noise
    assert target(of(scheduler, "sample"), latents, noise, timesteps) is latents


def test_velocity_and_noised_latents_give_back_both_parts(batch):
    schedule = of(DDPMScheduler(), "v_prediction")
    latents, noise, timesteps = batch
    x, v = add_noise(schedule, latents, noise, timesteps), target(schedule, latents, noise, timesteps)
    alpha, sigma = schedule.at(timesteps)
    assert_close(alpha * x - sigma * v, latents)
    assert_close(sigma * x + alpha * v, noise)


def test_variance_is_preserved():
    schedule = of(DDPMScheduler(**CONFIGS["zero_terminal_snr"]))
    assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(schedule.steps))


def test_errors_are_means_over_channels_and_pixels():
    prediction = torch.zeros(2, 4, 2, 2)
    wanted = torch.stack([torch.full((4, 2, 2), 3.0), torch.zeros(4, 2, 2)])
    wanted[1, 0, 0, 0] = 4.0
    assert image_errors(prediction, wanted).tolist() == [9.0, 1.0]


def test_half_precision_predictions_are_reduced_in_float32():
    generator = torch.Generator().manual_seed(0)
    prediction, wanted = torch.randn(2, 8, 4, 32, 32, generator=generator)
    half = prediction.bfloat16()
    found = image_errors(half, wanted)
    assert found.dtype == torch.float32
    truth = (half.double() - wanted.double()).flatten(1).pow(2).mean(1)
    assert_close(found, truth, steps=8)


@pytest.mark.parametrize("config", [{}, {"shift": 3.0}])
def test_a_flow_is_noised_as_its_scheduler_does_it_and_told_its_times(config, batch):
    scheduler = FlowMatchEulerDiscreteScheduler(**config)
    schedule = NoiseSchedule.from_sigmas(scheduler.sigmas, scheduler.timesteps)
    latents, noise, timesteps = batch
    theirs = scheduler.scale_noise(latents, scheduler.timesteps.flip(0)[timesteps], noise)
    assert_close(add_noise(schedule, latents, noise, timesteps), theirs)
    assert_close(schedule.times(timesteps), schedule.sigma[timesteps] * 1000)
    assert (schedule.sigma.diff() > 0).all()


def test_a_flows_target_is_its_velocity(batch):
    """x_σ moves by ε − x_0 per unit of σ, whatever σ is."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    schedule = NoiseSchedule.from_sigmas(scheduler.sigmas, scheduler.timesteps)
    latents, noise, timesteps = (values[:4] for values in batch)
    step = add_noise(schedule, latents, noise, timesteps + 1) - add_noise(
        schedule, latents, noise, timesteps
    )
    scale = 1000 * float(latents.abs().max())  # the step is the difference of two of these
    assert_close(step * 1000, target(schedule, latents, noise, timesteps), scale=scale)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_uniform_draws_of_a_logit_normal_flow_are_logit_normal(shift):
    """σ = s u / (1 + (s − 1) u): undone, logit(u) has mean 0 and standard deviation 1."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    schedule = logit_normal(NoiseSchedule.from_sigmas(scheduler.sigmas, scheduler.timesteps))
    sigma = schedule.sigma.double()
    u = sigma / (shift - (shift - 1) * sigma)
    z = torch.logit(u)
    assert z.mean().abs() < 5e-3
    assert abs(z.std() - 1) < 5e-3
    assert abs(float((z < -1).double().mean()) - 0.1587) < 2e-3
    assert (schedule.sigma.diff() > 0).all()
    assert_close(schedule.alpha + schedule.sigma, torch.ones(1000))
    assert_close(schedule.model_times, schedule.sigma * 1000)

"""Stochastic DDIM: diffusers' own transition, a density per step, rows that do not know each other."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train.families.family import Folder, open_family
from rpo_cli.train.online.trajectory import Grid, Sampler, log_probability, sample, step_kl, step_of
from rpo_cli.train.policy import build_policy, weight_dtype
from tests.closeness import FORWARD, assert_close

CONFIG = {
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "prediction_type": "epsilon",
}
PROMPTS = ["a red thing", "a dog", "a cat"]


def latents_like(seed, count=3):
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_transition_is_that_of_diffusers_with_the_same_noise(kind, spacing, eta):
    config = {**CONFIG, "prediction_type": kind, "timestep_spacing": spacing, "set_alpha_to_one": False}
    scheduler = DDIMScheduler.from_config(config)
    scheduler.set_timesteps(7)
    grid = Grid.of(config, 7, eta)
    latents, prediction, noise = (latents_like(seed) for seed in range(3))
    assert grid.times.tolist() == scheduler.timesteps.tolist()
    for index, time in enumerate(scheduler.timesteps):
        theirs = scheduler.step(prediction, time, latents, eta=eta, variance_noise=noise)
        ours = step_of(grid, index, latents, prediction)
        assert_close(ours.mean + grid.sigma[index] * noise, theirs.prev_sample)
        assert_close(ours.denoised, theirs.pred_original_sample)


def test_the_estimate_of_the_picture_is_never_clipped():
    grid = Grid.of({**CONFIG, "clip_sample": True, "thresholding": True}, 5, 1.0)
    latents = 10 * latents_like(0)
    assert step_of(grid, 2, latents, torch.zeros_like(latents)).denoised.abs().max() > 10


def test_a_log_probability_is_the_mean_of_the_normal_density_over_the_elements():
    grid = Grid.of(CONFIG, 5, 1.0)
    mean, following = latents_like(0), latents_like(1)
    sigma = grid.sigma[1]
    expected = torch.distributions.Normal(mean, sigma).log_prob(following).mean(dim=(1, 2, 3))
    assert_close(log_probability(grid, 1, mean, following), expected)
    at_mean = log_probability(grid, 1, mean, mean)
    assert_close(at_mean, torch.full((3,), -math.log(float(sigma) * math.sqrt(2 * math.pi))))


def test_the_kl_of_two_steps_is_that_of_two_normals():
    grid = Grid.of(CONFIG, 5, 1.0)
    mean, other = latents_like(0), latents_like(1)
    normals = (torch.distributions.Normal(value, grid.sigma[2]) for value in (mean, other))
    expected = torch.distributions.kl_divergence(*normals).mean(dim=(1, 2, 3))
    assert_close(step_kl(grid, 2, mean, other), expected)
    assert torch.equal(step_kl(grid, 2, mean, mean), torch.zeros(3))


def test_a_certain_last_step_has_no_density_and_teaches_nothing():
    """With ᾱ = 1 at the end the last DDIM step is deterministic, as in diffusers' default."""
    grid = Grid.of({**CONFIG, "set_alpha_to_one": True}, 5, 1.0)
    assert grid.sigma[-1] == 0
    assert grid.random_steps == [0, 1, 2, 3]
    assert log_probability(grid, 4, latents_like(0), latents_like(1)).isnan().all()
    assert Grid.of({**CONFIG, "set_alpha_to_one": False}, 5, 1.0).random_steps == [0, 1, 2, 3, 4]
    assert Grid.of(CONFIG, 5, 0.0).random_steps == []


def test_the_running_cost_becomes_the_kl_of_the_steps_as_they_get_short():
    """½ ∫ g² |Δs|² dt is the path's KL (Girsanov); DDIM's steps at η = 1 are its discretisation."""
    ratios = []
    for steps in (10, 100, 1000):
        grid = Grid.of({**CONFIG, "set_alpha_to_one": False, "steps_offset": 0}, steps, 1.0)
        index = steps // 2
        latents, one, other = (latents_like(seed) for seed in range(3))
        kl = step_kl(grid, index, *(step_of(grid, index, latents, p).mean for p in (one, other)))
        deviation = (one - other).square().mean(dim=(1, 2, 3)) / (1 - grid.alpha[index])
        ratios.append(float((0.5 * grid.spent_noise()[index] * deviation / kl).mean()))
    errors = [abs(ratio - 1) for ratio in ratios]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_more_steps_than_the_schedule_has_are_refused():
    with pytest.raises(UsageError, match="has 1000"):
        Grid.of(CONFIG, 1000, 1.0)


@pytest.fixture(scope="module")
def sampler(model):
    return sampler_of(model, steps=4)


def sampler_of(model, *, steps, eta=1.0, guidance=3.0):
    settings = TrainSettings(rank=4)
    family = open_family(str(model))
    policy = build_policy(
        family.load_denoiser(weight_dtype(settings)), settings, family.lora_targets, 0, "cpu"
    )
    grid = Grid.of(Folder(str(model), None).config("scheduler", DDIMScheduler), steps, eta)
    return Sampler(policy, family, grid, guidance, family.latent_size()[0], "cpu")


def condition_of(sampler, prompts):
    encoded = sampler.family.load_encoders("cpu").encode_prompts(["", *prompts])
    return sampler.both({"hidden": encoded["hidden"][1:]}, {"hidden": encoded["hidden"][:1]})


@pytest.mark.parametrize(("eta", "guidance"), [(1.0, 3.0), (0.0, 3.0), (0.5, 1.0)])
def test_a_trajectory_ends_where_the_diffusers_pipeline_does(model, eta, guidance):
    """Same seeds, steps, guidance and η: StableDiffusionPipeline with a DDIMScheduler."""
    ours = sampler_of(model, steps=4, eta=eta, guidance=guidance)
    drawn = sample(ours, condition_of(ours, PROMPTS), [5, 6, 7])
    pipe = StableDiffusionPipeline.from_pretrained(model, use_safetensors=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in (5, 6, 7)]
    theirs = pipe(
        PROMPTS,
        num_inference_steps=4,
        guidance_scale=guidance,
        eta=eta,
        generator=generators,
        output_type="latent",
    ).images
    assert_close(drawn.latents[-1], theirs, FORWARD)


def test_a_row_does_not_know_its_neighbours(sampler):
    """At its place it has equal bits; another place in the batch may round otherwise."""
    drawn = sample(sampler, condition_of(sampler, PROMPTS), [5, 6, 7])
    turned = sample(sampler, condition_of(sampler, [PROMPTS[i] for i in (2, 0, 1)]), [7, 5, 6])
    again = sample(sampler, condition_of(sampler, [PROMPTS[0], "a bird", "a fish"]), [5, 1, 2])
    assert_close(turned.latents[:, [1, 2, 0]], drawn.latents, FORWARD)
    assert_close(turned.log_probabilities[:, [1, 2, 0]], drawn.log_probabilities, FORWARD)
    assert torch.equal(again.latents[:, 0], drawn.latents[:, 0])
    assert not torch.equal(again.latents[:, 1], drawn.latents[:, 1])


def test_the_same_weights_give_the_stored_log_probability_bit_for_bit(sampler):
    """With and without gradient: the ratio of a round's first step is exactly 1."""
    condition = condition_of(sampler, PROMPTS)
    drawn = sample(sampler, condition, [5, 6, 7])
    for index in sampler.grid.random_steps:
        prediction = sampler.predict(sampler.policy.unet, drawn.latents[index], index, condition)
        assert prediction.requires_grad
        mean = step_of(sampler.grid, index, drawn.latents[index], prediction).mean
        again = log_probability(sampler.grid, index, mean, drawn.latents[index + 1])
        assert torch.equal(again, drawn.log_probabilities[index])
        assert torch.equal(mean, drawn.means[index])


def test_the_initial_policy_is_its_reference_bit_for_bit(sampler):
    drawn = sample(sampler, condition_of(sampler, PROMPTS), [5, 6, 7], with_reference=True)
    assert drawn.reference_means is not None
    assert torch.equal(drawn.reference_means, drawn.means)
    assert torch.equal(drawn.deviation, torch.zeros(4, 3))

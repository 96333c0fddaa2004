"""Our formulas on what two public scripts fed their loss, and what they got from it.

tests/recordings/README.md says what is recorded: four steps of each script, run unmodified on a tiny
model. Salesforce's script writes (β/2)·margin with β 5000, diffusers' SD script
β·margin with β 2500: the same scale, so our β is 5000 for both.
"""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rpo_cli.train.noise import NoiseSchedule, add_noise, image_errors, target
from rpo_cli.train.objectives.objective import Errors
from rpo_cli.train.objectives.presets import DPO
from tests.closeness import assert_close

RECORDINGS = Path(__file__).parent / "recordings"
OUR_BETA = {"salesforce_sd": 5000.0, "diffusers_sd": 2 * 2500.0}
STEPS = range(4)


def recording(script: str, step: int) -> dict[str, torch.Tensor]:
    with safe_open(RECORDINGS / f"{script}.safetensors", framework="pt") as file:
        prefix = f"step{step}."
        names = [name for name in list(file.keys()) if name.startswith(prefix)]
        return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


def schedule() -> NoiseSchedule:
    """Stable Diffusion's: scaled-linear betas from 0.00085 to 0.012, computed in fp32 as diffusers does."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2
    return NoiseSchedule.from_alphas_cumprod(torch.cumprod(1 - betas, 0), "epsilon")


def errors(recorded: dict[str, torch.Tensor]) -> Errors:
    wanted = target(schedule(), recorded["latents"], recorded["noise"], recorded["timesteps"])
    return Errors(image_errors(recorded["policy_pred"], wanted), image_errors(recorded["ref_pred"], wanted))


def largest(script: str, found: Errors) -> float:
    """What a logit is the difference of: β times the errors."""
    return OUR_BETA[script] * float(found.policy.max())


def in_double(prediction: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return (prediction.double() - noise.double()).flatten(1).pow(2).mean(1)


@pytest.mark.parametrize("script", OUR_BETA)
@pytest.mark.parametrize("step", STEPS)
def test_noised_latents_are_the_recorded_ones(script, step):
    recorded = recording(script, step)
    noisy = add_noise(schedule(), recorded["latents"], recorded["noise"], recorded["timesteps"])
    assert_close(noisy, recorded["noisy"])


@pytest.mark.parametrize("script", OUR_BETA)
@pytest.mark.parametrize("step", STEPS)
def test_per_image_errors_are_exact_to_one_part_in_a_million(script, step):
    recorded = recording(script, step)
    found = errors(recorded)
    for ours, prediction in ((found.policy, "policy_pred"), (found.reference, "ref_pred")):
        truth = in_double(recorded[prediction], recorded["noise"])
        assert_close(ours, truth, steps=8)


@pytest.mark.parametrize("script", OUR_BETA)
@pytest.mark.parametrize("step", STEPS)
def test_logits_are_those_of_the_public_script(script, step):
    recorded = recording(script, step)
    measured = errors(recorded)
    found = DPO.logits(measured, OUR_BETA[script])
    assert_close(found, recorded["logits"].flatten(), steps=4, scale=largest(script, measured))
    if step == 0:
        assert torch.equal(found, torch.zeros_like(found))


@pytest.mark.parametrize("script", OUR_BETA)
@pytest.mark.parametrize("step", STEPS)
def test_the_mean_loss_is_that_of_the_public_script(script, step):
    recorded = recording(script, step)
    measured = errors(recorded)
    loss = DPO.losses(measured, OUR_BETA[script]).mean()
    assert_close(loss, recorded["loss"].squeeze(), steps=4, scale=largest(script, measured))


def test_the_two_scripts_disagree_on_beta_by_a_factor_of_two():
    recorded = recording("diffusers_sd", 2)
    measured = errors(recorded)
    doubled = 2 * DPO.logits(measured, 2500.0)
    scale = largest("diffusers_sd", measured)
    assert_close(doubled, recorded["logits"].flatten(), steps=4, scale=scale)

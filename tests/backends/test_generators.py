"""What every generator must hold, on a tiny random model of its class."""

import numpy as np
import pytest
import torch

from rpo_cli import registry
from rpo_cli.backends.generator import OneStepGenerator
from rpo_cli.backends.loading import load_pipeline
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.protocols import Weights
from rpo_cli.recipes import recipe
from tests.tiny_editors import GENERATORS

NAMES = sorted(GENERATORS)
SIDE = 32


@pytest.fixture(scope="module")
def generator(tiny):
    """A loaded generator by its name; loaded once."""
    found = {}

    def call(name):
        if name not in found:
            how = recipe("generators", name)
            numbers = {"steps": min(how.steps, 2), "guidance": how.guidance, "width": SIDE, "height": SIDE}
            made = registry.load("generators", name)
            found[name] = made(Weights(tiny("generators", name)), **{**numbers, **how.options})
            found[name].setup()
        return found[name]

    return call


def drawn(backend, prompts, seeds):
    return [np.asarray(found) for found in backend.generate(prompts, seeds)]


def test_every_generator_is_proven_here():
    """One whose processor needs more than ours is said to need it, at the door and by `rpo list`."""
    for name in registry.generators:
        assert (name in GENERATORS) != bool(recipe("generators", name).needs), name


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_does_not_depend_on_its_place_or_its_neighbours(generator, name):
    prompts, seeds = ["make it red", "a blue circle and more of it"], [1, 2]
    together = drawn(generator(name), prompts, seeds)
    turned = drawn(generator(name), prompts[::-1], seeds[::-1])
    alike = drawn(generator(name), prompts[:1] * 2, seeds[:1] * 2)

    assert together[0].shape == (SIDE, SIDE, 3)
    assert np.array_equal(together[0], alike[0])  # another neighbour
    # another place: a CPU's matrix product of all tokens of a batch rounds its last rows differently
    assert np.abs(together[0].astype(int) - turned[1]).max() <= 1
    assert np.abs(together[1].astype(int) - turned[0]).max() <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_picture_follows_from_prompt_and_seed(generator, name):
    found, *changed = drawn(generator(name), ["make it red", "a blue circle", "make it red"], [1, 1, 2])
    for other in changed:
        assert not np.array_equal(found, other)


def test_one_step_is_the_x_0_of_sigma_z_at_t(generator, tiny):
    """SiD-LSG's sampler by its formula: (x_t - sigma eps(x_t, t)) / alpha, x_t = sigma z, t = 625."""
    pipe = load_pipeline(Weights(tiny("generators", "one-step")))
    alpha_bar = pipe.scheduler.alphas_cumprod[625]
    side = SIDE // pipe.vae_scale_factor
    noise = torch.randn((1, 4, side, side), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        tokens = pipe.tokenizer(["make it red"], padding="max_length", max_length=16, return_tensors="pt")
        words = pipe.text_encoder(tokens.input_ids)[0]
        noisy = (1 - alpha_bar).sqrt() * noise
        eps = pipe.unet(noisy, 625, encoder_hidden_states=words).sample
        clean = (noisy - (1 - alpha_bar).sqrt() * eps) / alpha_bar.sqrt()
        picture = pipe.vae.decode(clean / pipe.vae.config.scaling_factor).sample
    expected = ((picture / 2 + 0.5).clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()

    (found,) = drawn(generator("one-step"), ["make it red"], [7])
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(
    "given", [{"steps": 2}, {"guidance": 3.0}, {"negative_prompt": "x"}, {"scheduler": "DDIMScheduler"}]
)
def test_one_step_takes_nothing_that_it_would_ignore(given):
    with pytest.raises(UsageError, match="one step alone"):
        OneStepGenerator(Weights("folder"), **given)


@pytest.mark.parametrize(
    ("name", "scheduler", "config"),
    [
        ("lcm-lora", "LCMScheduler", {}),
        ("lightning", "EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
        ("one-step", "DDPMScheduler", {"clip_sample": False}),
    ],
)
def test_a_distilled_model_gets_its_scheduler(generator, name, scheduler, config):
    found = generator(name)._pipe.scheduler
    assert type(found).__name__ == scheduler
    assert {key: found.config[key] for key in config} == config


@pytest.mark.parametrize("name", ["turbo", "flux-schnell", "flux2-klein", "lightning"])
def test_a_model_that_takes_no_guidance_runs_its_denoiser_once_a_step(generator, name):
    """Without guidance there is no second evaluation for a blank prompt."""
    assert evaluations(generator(name)) == [1] * min(recipe("generators", name).steps, 2)


def evaluations(backend):
    """Rows of every call of the denoiser for one picture."""
    batches, pipe = [], backend._pipe
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    hook = denoiser.register_forward_pre_hook(
        lambda module, given, named: batches.append((given or (named["hidden_states"],))[0].shape[0]),
        with_kwargs=True,
    )
    try:
        backend.generate(["make it red"], [1])
    finally:
        hook.remove()
    return batches


@pytest.mark.parametrize(("guidance", "rows"), [(1.0, [1, 1]), (3.0, [2, 2])])
@pytest.mark.parametrize("name", ["diffusers", "sdxl", "sd3"])
def test_guidance_is_one_batch_and_none_at_a_guidance_of_1(tiny, name, guidance, rows):
    made = registry.load("generators", name)(
        Weights(tiny("generators", name)), steps=2, guidance=guidance, width=SIDE, height=SIDE
    )
    made.setup()
    assert evaluations(made) == rows


@pytest.mark.parametrize("name", ["diffusers", "one-step"])
def test_an_adapter_that_is_none_is_told_in_two_lines(tiny, tmp_path, name):
    backend = registry.load("generators", name)(Weights(tiny("generators", name)), lora=str(tmp_path))
    with pytest.raises(RpoError, match="holds no LoRA") as caught:
        backend.setup()
    assert "\n" not in caught.value.message

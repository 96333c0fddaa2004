"""Three whole optimiser steps of two public scripts, and of ours on what they drew.

tests/train/public/ holds numbers only: what each script, run unmodified on a random UNet of 17,000 weights,
fed its three steps (latents, noise, timesteps, text), its logits, its gradients' norms, and its weights
before the first and after the last step. The header names the script's commit, versions and settings.
Both: AdamW, betas 0.9 and 0.999, weight decay 0.01, eps 1e-8, clipped to norm 1, no warm-up, four pairs.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import safe_open

from rpo_cli.config import TrainSettings
from rpo_cli.protocols import Silent
from rpo_cli.train import step
from rpo_cli.train.composition import salesforce_beta, settled
from rpo_cli.train.data.pairs import TrainingPair
from rpo_cli.train.families.family import open_family
from rpo_cli.train.job import Job
from rpo_cli.train.knowledge import knowledge
from rpo_cli.train.loop import start_or_resume
from rpo_cli.train.noise import Draw, DrawSettings
from rpo_cli.train.policy import build_policy
from rpo_cli.train.step import train_step
from tests.closeness import assert_close

PAIRS, STEPS = 4, 3
OURS = {
    "salesforce": {"full": True, "beta_from": "salesforce"},
    "diffusers_sd": {"rank": 4, "beta_from": "diffusers-sd"},
}


@dataclass(frozen=True)
class Recording:
    """What a script did; `told` is the file's header."""

    told: dict[str, str]
    values: dict[str, torch.Tensor]

    def of(self, step: int, name: str) -> torch.Tensor:
        return self.values[f"step{step}.{name}"]

    def under(self, prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in self.values.items() if k.startswith(prefix)}


def recording(script: str) -> Recording:
    path = Path(__file__).parent / "public" / f"{script}.safetensors"
    with safe_open(path, framework="pt") as file:
        return Recording(file.metadata(), {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


class RecordedCache:
    """Latents and text of the recorded step in place of encoded ones; pictures are called w0, l0, ..."""

    shape = (4, 8, 8)

    def __init__(self, recorded: Recording) -> None:
        self.recorded, self.step = recorded, 0

    def size(self, picture):
        return self.shape[1:]

    def latent(self, picture, flip):
        row = int(picture[1:]) + (PAIRS if picture[0] == "l" else 0)
        mean = self.recorded.of(self.step, "latents")[row]
        return mean, torch.zeros_like(mean)

    def prompt(self, caption, picture):
        return {"hidden": self.recorded.of(self.step, "text")[int(caption)]}


def family_of(recorded: Recording, script: str, model: Path, folder: Path):
    """The tiny pipeline of the tests with the recorded UNet in it."""
    unet = UNet2DConditionModel(**json.loads(recorded.told["unet"]))
    unet.load_state_dict(recorded.under("before." if script == "salesforce" else "base."))
    unet.save_pretrained(folder / "model" / "unet")
    for part in model.iterdir():
        if part.name != "unet":
            (folder / "model" / part.name).symlink_to(part)
    return open_family(str(folder / "model"), None)


@pytest.fixture(params=OURS)
def trained(request, model, tmp_path, monkeypatch):
    """(recording, weights before, numbers of each step, weights after) of our own training steps."""
    script = request.param
    recorded = recording(script)
    family = family_of(recorded, script, model, tmp_path)
    theirs = json.loads(recorded.told["settings"])
    shape = {"global_batch": PAIRS, "batch_size": PAIRS, "steps": STEPS, "warmup_steps": 0}
    settings, objective = settled(TrainSettings(method="dpo", **shape, **theirs, **OURS[script]))
    pairs = [TrainingPair(f"w{row}", f"l{row}", str(row)) for row in range(PAIRS)]
    cache = RecordedCache(recorded)

    def drawn(_, step, position, total):
        noise = recorded.of(step, "noise")[position]
        time = int(recorded.of(step, "timesteps")[position])
        return Draw(position, time, noise, torch.zeros_like(noise), flip=False, drop_caption=False)

    monkeypatch.setattr(step, "training_draw", drawn)
    draws = DrawSettings(0, PAIRS, 1000, cache.shape, flip=False, caption_dropout=0.0)
    known = knowledge(objective, family.schedule, pairs, None)
    beta = salesforce_beta(settings.beta, settings.beta_from, 4 * 8 * 8)
    job = Job(
        settings, objective, family, family.schedule, cache, pairs, [], draws, "cpu", known, beta, PAIRS
    )
    policy = build_policy(family.load_denoiser(), settings, family.lora_targets, 0, "cpu")
    with torch.no_grad():
        for name, value in recorded.under("before.").items():
            policy.parameters[name].copy_(value)
    state = start_or_resume(job, policy, tmp_path / "out")
    before = {name: value.detach().clone() for name, value in policy.parameters.items()}
    numbers = []
    for cache.step in range(STEPS):
        numbers.append(train_step(job, state, Silent()))
    return recorded, before, numbers, policy.parameters


def test_three_updates_are_those_of_the_public_script(trained):
    """Weights move by up to three rates; the largest difference is below a twentieth of one.

    AdamW divides by the gradient's own size, so where that is next to nothing its rounding shows.
    """
    recorded, before, _, after = trained
    rate = json.loads(recorded.told["settings"])["learning_rate"]
    theirs, first = recorded.under("after."), recorded.under("before.")
    assert theirs.keys() == after.keys()
    for name, value in theirs.items():
        assert torch.equal(before[name], first[name])
        assert (after[name].detach() - value).abs().max() <= rate / 20
    apart = torch.cat([(after[name].detach() - value).flatten() for name, value in theirs.items()])
    moved = torch.cat([(value - first[name]).flatten() for name, value in theirs.items()])
    assert apart.norm() < 1e-3 * moved.norm()


def test_logits_and_gradients_on_the_way_are_those_of_the_public_script(trained):
    """AdamW hides the gradient's scale, its norm before clipping does not."""
    recorded, _, numbers, _ = trained
    for place, found in enumerate(numbers):
        logits, norm = recorded.of(place, "logits"), recorded.of(place, "grad_norm").item()
        scale = 5000.0 * found["winner_error"]  # a logit is the difference of β times the errors
        assert_close(found["logit_mean"], logits.mean(), steps=4, scale=scale)
        assert_close(found["logit_std"], logits.std(correction=0), steps=4, scale=scale)
        assert found["grad_norm"] == pytest.approx(norm, rel=1e-3)

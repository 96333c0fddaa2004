"""A batch: winners first, and both sides under the same draw."""

import torch

from rpo_cli.train.batch import assemble
from rpo_cli.train.data import Pair
from rpo_cli.train.diffusion import NoiseSchedule
from rpo_cli.train.draws import Draw

PAIRS = [Pair("w0", "l0", "first"), Pair("w1", "l1", "second")]
SCHEDULE = NoiseSchedule(torch.tensor([1.0, 0.6]), torch.tensor([0.0, 0.8]), "epsilon")
VALUES = {"w0": 1.0, "l0": 2.0, "w1": 3.0, "l1": 4.0, "w1.flip": 30.0, "l1.flip": 40.0}


class FakeCache:
    """Constant latents, so that every number can be followed by hand; std is a tenth of the mean."""

    def latent(self, picture, flip):
        value = VALUES[f"{picture}.flip" if flip else picture]
        return torch.full((1, 2, 2), value), torch.full((1, 2, 2), value / 10)

    def prompt(self, caption, picture):
        return {"hidden": torch.full((3, 2), float(len(caption)))}


def draw(pair, timestep, *, noise=0.0, posterior=0.0, flip=False, drop_caption=False) -> Draw:
    plane = torch.ones(1, 2, 2)
    return Draw(pair, timestep, noise * plane, posterior * plane, flip, drop_caption)


def first_values(values: torch.Tensor) -> list[float]:
    return [round(value, 4) for value in values[:, 0, 0, 0].tolist()]


def test_winners_stand_first_and_losers_follow_in_the_same_order():
    batch = assemble([draw(1, 0), draw(0, 0)], PAIRS, FakeCache(), SCHEDULE, "cpu")
    assert first_values(batch.noisy) == [3.0, 1.0, 4.0, 2.0]


def test_noise_timestep_and_posterior_sample_are_shared_within_a_pair():
    draws = [draw(0, 1, noise=5.0, posterior=1.0), draw(1, 0, noise=7.0)]
    batch = assemble(draws, PAIRS, FakeCache(), SCHEDULE, "cpu")
    assert batch.timesteps.tolist() == [1, 0, 1, 0]
    assert first_values(batch.wanted) == [5.0, 7.0, 5.0, 7.0]
    # 0.6 (mean + std) + 0.8 · 5 for both sides of pair 0
    assert first_values(batch.noisy) == [0.6 * 1.1 + 4, 3.0, 0.6 * 2.2 + 4, 4.0]


def test_both_sides_are_mirrored_or_neither():
    batch = assemble([draw(1, 0, flip=True), draw(0, 0)], PAIRS, FakeCache(), SCHEDULE, "cpu")
    assert first_values(batch.noisy) == [30.0, 1.0, 40.0, 2.0]


def test_a_dropped_caption_is_dropped_for_both_sides():
    draws = [draw(0, 0, drop_caption=True), draw(1, 0)]
    batch = assemble(draws, PAIRS, FakeCache(), SCHEDULE, "cpu")
    assert batch.condition["hidden"][:, 0, 0].tolist() == [0.0, 6.0, 0.0, 6.0]

"""A batch: winners first, and both sides under the same draw."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch

from rpo_cli.train.data.pairs import TrainingPair
from rpo_cli.train.item_errors import assemble, item_errors
from rpo_cli.train.noise import Draw, NoiseSchedule

PAIRS = [TrainingPair("w0", "l0", "first"), TrainingPair("w1", "l1", "second")]
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


class MixedCache(FakeCache):
    """Pair 0 is wider than pair 1."""

    def latent(self, picture, flip):
        mean, std = super().latent(picture, flip)
        return (mean.repeat(1, 1, 2), std.repeat(1, 1, 2)) if picture.endswith("0") else (mean, std)


def wide_draw(pair) -> Draw:
    plane = torch.arange(8.0).view(1, 2, 4)
    return Draw(pair, 1, plane, plane, False, False)


def test_pairs_of_several_sizes_split_into_parts_of_one_size_each():
    batch = assemble([wide_draw(0), wide_draw(1)], PAIRS, MixedCache(), SCHEDULE, "cpu")
    assert batch.sizes == ((2, 4), (2, 2)) * 2
    (rows, narrow), (other_rows, wide) = batch.parts()
    assert (rows, other_rows) == ([1, 3], [0, 2])
    assert narrow.noisy.shape == (2, 1, 2, 2)
    assert wide.noisy.shape == (2, 1, 2, 4)
    alone = assemble([wide_draw(1)], PAIRS, FakeCache(), SCHEDULE, "cpu")
    assert torch.equal(narrow.noisy, alone.noisy)
    assert torch.equal(narrow.condition["hidden"], alone.condition["hidden"])


class CountingFamily:
    """Predicts zero and remembers the shapes that it was asked for."""

    def __init__(self):
        self.shapes = []

    def predict(self, unet, noisy, timesteps, condition):
        self.shapes.append(tuple(noisy.shape))
        return torch.zeros_like(noisy)


def test_errors_of_mixed_sizes_stand_in_the_order_of_the_batch_and_ignore_padding():
    policy = SimpleNamespace(autocast=nullcontext, unet=None, reference=nullcontext, texts=None)
    policy.layout = torch.channels_last
    draws = [wide_draw(0), wide_draw(1)]
    batch = assemble(draws, PAIRS, MixedCache(), SCHEDULE, "cpu")
    family = CountingFamily()
    found = item_errors(policy, family, batch, with_reference=False, grad=False).policy.flatten()
    # ε is 0..7 in the wide latents and its left half in the narrow ones: mean squares 140/8 and 42/4
    assert found.tolist() == [17.5, 10.5, 17.5, 10.5]
    assert family.shapes == [(2, 1, 2, 2), (2, 1, 2, 4)]

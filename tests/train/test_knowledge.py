"""What is known of drawn items, by hand."""

import math
from dataclasses import replace

import pytest
import torch

from rpo_cli.train.data.pairs import Ranking, TrainingPair
from rpo_cli.train.data.singles import Single
from rpo_cli.train.knowledge import knowledge
from rpo_cli.train.noise import Draw, NoiseSchedule
from rpo_cli.train.objectives.grouped import KTO, RANK_DPO
from rpo_cli.train.objectives.presets import DPO, MALLOWS, PPOD

SCHEDULE = NoiseSchedule.from_alphas_cumprod(torch.tensor([0.9, 0.5, 0.1]), "epsilon")  # SNR 9, 1, 1/9
PAIRS = [
    TrainingPair("w0", "l0", "c", dispersion=math.exp(-1), agreement=0.75),
    TrainingPair("w1", "l1", "c", dispersion=math.exp(-3), agreement=1.0),
]


def draws(*places: tuple[int, int]) -> list[Draw]:
    """(item, timestep) each."""
    empty = torch.zeros(1)
    return [Draw(item, timestep, empty, empty, False, False) for item, timestep in places]


def test_an_objective_that_asks_for_nothing_is_told_what_the_log_needs():
    found = knowledge(DPO, SCHEDULE, PAIRS, None).of(draws((0, 1)), PAIRS, "cpu")
    told = {name: value for name, value in vars(found).items() if value is not None}
    assert told.keys() == {"noise", "divergence"}
    assert told["noise"].tolist() == pytest.approx([1 / 3])


def test_a_good_picture_is_worth_1_and_a_bad_one_minus_1():
    pictures = [Single("a", "c", True), Single("b", "c", False)]
    told = knowledge(KTO, SCHEDULE, pictures, None)
    assert told.of(draws((1, 0), (0, 0), (1, 2)), pictures, "cpu").good.tolist() == [-1.0, 1.0, -1.0]


def test_weights_are_scaled_by_the_training_pairs_also_for_others():
    """-log phi = 1 and 3: mean 2, so the weights are 0.5 and 1.5; the held-out pair keeps that scale."""
    told = knowledge(MALLOWS, SCHEDULE, PAIRS, None)
    assert told.of(draws((1, 0), (0, 0)), PAIRS, "cpu").weight.tolist() == pytest.approx([1.5, 0.5])
    held_out = [TrainingPair("w", "l", "c", dispersion=math.exp(-2))]
    assert told.of(draws((0, 0)), held_out, "cpu").weight.tolist() == pytest.approx([1.0])


def test_weights_of_pair_and_timestep_multiply():
    both = replace(MALLOWS, timestep_weight="min-snr")
    found = knowledge(both, SCHEDULE, PAIRS, None).of(draws((0, 0), (1, 1)), PAIRS, "cpu")
    assert found.weight.tolist() == pytest.approx([0.5 * 5 / 9, 1.5])


def test_labels_ratios_and_gains_follow_the_drawn_items():
    soft = replace(DPO, soft_labels="agreement")
    found = knowledge(soft, SCHEDULE, PAIRS, None).of(draws((1, 0), (0, 0)), PAIRS, "cpu")
    assert found.label.tolist() == [1.0, 0.75]
    found = knowledge(PPOD, SCHEDULE, PAIRS, None).of(draws((0, 1)), PAIRS, "cpu")
    assert found.ratio.tolist() == pytest.approx([8.0], rel=1e-5)
    lists = [Ranking(("a", "b"), "c", (1.0, 0.0)), Ranking(("d", "e"), "c", (0.8, 0.1))]
    found = knowledge(RANK_DPO, SCHEDULE, lists, None).of(draws((1, 0), (0, 0)), lists, "cpu")
    assert torch.equal(found.gains, torch.tensor([[0.8, 1.0], [0.1, 0.0]]))

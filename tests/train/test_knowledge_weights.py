"""Weights of pairs and timesteps, and soft labels, against values worked out by hand."""

import math
import random
from typing import get_args

import pytest
import torch

from rpo_cli.config import PairWeight, SoftLabels
from rpo_cli.train.data.pairs import TrainingPair
from rpo_cli.train.knowledge import (
    pair_weight,
    raw_weight,
    snr_of,
    soft_label,
    step_ratios,
    timestep_weights,
    weight_scale,
)
from rpo_cli.train.noise import NoiseSchedule
from rpo_cli.train.objectives.objective import COLUMNS, importance


def pairs(**columns) -> list[TrainingPair]:
    count = len(next(iter(columns.values())))
    return [
        TrainingPair(f"w{i}", f"l{i}", "c", **{name: values[i] for name, values in columns.items()})
        for i in range(count)
    ]


def schedule(kind="epsilon") -> NoiseSchedule:
    """alpha^2 = 0.9, 0.5, 0.1: SNR = 9, 1, 1/9."""
    return NoiseSchedule.from_alphas_cumprod(torch.tensor([0.9, 0.5, 0.1]), kind)


def test_every_weight_and_label_that_can_be_set_has_its_column():
    assert COLUMNS.keys() >= {*get_args(PairWeight), *get_args(SoftLabels)} - {"none"}


def test_a_disputed_prompt_weighs_less():
    """Mallows: -log phi falls with dispersion; a reversed weight would teach most from coin flips."""
    found = pairs(dispersion=[0.1, 0.5, 0.9])
    weights = [raw_weight("dispersion", pair) for pair in found]
    assert weights == pytest.approx([math.log(10), math.log(2), -math.log(0.9)])
    scale = weight_scale("dispersion", found)
    assert math.fsum(scale * weight for weight in weights) / 3 == pytest.approx(1)


@pytest.mark.parametrize("kind", ["dispersion", "margin", "agreement"])
def test_weights_have_mean_one_before_they_are_held_in_bounds(kind):
    generator = random.Random(0)
    found = pairs(**{kind: [0.4 + 0.2 * generator.random() for _ in range(50)]})
    scale = weight_scale(kind, found)
    assert math.fsum(pair_weight(kind, pair, scale) for pair in found) / 50 == pytest.approx(1)


@pytest.mark.parametrize(("dispersion", "expected"), [(1.0, 0.2), (0.0, 5.0)])
def test_weights_are_held_in_bounds(dispersion, expected):
    assert pair_weight("dispersion", pairs(dispersion=[dispersion])[0], 1.0) == expected


@pytest.mark.parametrize(("margin", "expected"), [(0.0, 0.0), (math.log(3), 5.0), (100.0, 10.0)])
def test_the_smooth_weight_is_ten_times_two_p_minus_one(margin, expected):
    """p = sigma(margin): 1/2, 3/4, 1."""
    assert pair_weight("smooth-margin", pairs(margin=[margin])[0], 1.0) == pytest.approx(expected)


def test_soft_labels_are_the_vote_share_or_sigma_of_the_margin():
    pair = TrainingPair("w", "l", "c", margin=math.log(3), agreement=0.6)
    assert soft_label("margin", pair) == pytest.approx(0.75)
    assert soft_label("agreement", pair) == 0.6
    assert soft_label("none", pair) == 1.0


@pytest.mark.parametrize(
    ("kind", "snr", "min_snr"),
    [
        ("epsilon", [1, 1, 1], [5 / 9, 1, 1]),
        ("v_prediction", [0.9, 0.5, 0.1], [0.5, 0.5, 0.1]),  # min(SNR, 5)/(SNR + 1)
        ("sample", [9, 1, 1 / 9], [5, 1, 1 / 9]),
    ],
)
def test_timestep_weights_are_those_of_the_models_own_target(kind, snr, min_snr):
    times = torch.arange(3)
    assert timestep_weights("snr", schedule(kind), times).tolist() == pytest.approx(snr, rel=1e-5)
    assert timestep_weights("min-snr", schedule(kind), times).tolist() == pytest.approx(min_snr, rel=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample", "flow"])
def test_snr_weighted_errors_are_epsilon_errors_whatever_the_model_predicts(kind):
    """One implied x_0, told as epsilon, v, x_0 or flow: the weighted error is the same."""
    found = (
        schedule(kind)
        if kind != "flow"
        else NoiseSchedule.from_sigmas(torch.tensor([0.25, 0.5, 0.75]), torch.tensor([250.0, 500.0, 750.0]))
    )
    alpha, sigma = found.alpha[1], found.sigma[1]
    wrong_epsilon = 0.3  # at a fixed x_t the implied x_0 is off by -sigma/alpha times that
    wrong_x0 = -sigma / alpha * wrong_epsilon
    off = {
        "epsilon": wrong_epsilon,
        "v_prediction": alpha * wrong_epsilon - sigma * wrong_x0,
        "sample": wrong_x0,
        "flow": wrong_epsilon - wrong_x0,
    }[kind]
    weighted = timestep_weights("snr", found, torch.tensor([1])) * off**2
    assert weighted.item() == pytest.approx(wrong_epsilon**2, rel=1e-4)


def test_the_ratio_of_a_step_is_the_gain_of_snr_in_epsilon_units():
    """SNR_0/SNR_1 - 1 = 8; of a v model a unit of error is worth alpha^2 = 1/2."""
    assert step_ratios(schedule(), torch.tensor([1])).item() == pytest.approx(8, rel=1e-5)
    assert step_ratios(schedule("v_prediction"), torch.tensor([1])).item() == pytest.approx(4, rel=1e-5)


def test_the_step_ratio_is_the_expected_log_ratio_of_ddpm_posteriors():
    """For epsilon errors of a DDPM step: KL(q || p) = (SNR_{t-1} - SNR_t)/2 |x0 - x0_hat|^2 per element."""
    found = schedule()
    snr = snr_of(found)
    epsilon_error = 0.02
    x0_error = epsilon_error / snr[1]
    expected = 0.5 * (snr[0] - snr[1]) * x0_error
    assert 0.5 * step_ratios(found, torch.tensor([1])).item() * epsilon_error == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_importance_is_a_softmax_per_group_of_mean_one():
    losses = torch.tensor([0.0, math.log(3), 1.0, 1.0])
    assert importance(losses, 2, 1.0, 0.0).tolist() == pytest.approx([0.5, 1.5, 1.0, 1.0])
    assert importance(losses + 100, 2, 1.0, 0.0).tolist() == pytest.approx([0.5, 1.5, 1.0, 1.0], rel=1e-5)


def test_importance_leaves_out_the_highest_losses():
    losses = torch.tensor([3.0, 1.0, 9.0, 1.0])
    found = importance(losses, 4, 1.0, 0.25)
    assert found[2] == 0
    assert found.sum().item() == pytest.approx(4)
    assert found[0] > found[1] == found[3]


def test_a_weight_by_its_loss_carries_no_gradient():
    losses = torch.tensor([0.2, 0.7], requires_grad=True)
    weights = importance(losses, 2, 1.0, 0.0)
    assert not weights.requires_grad
    assert weights.mean().item() == pytest.approx(1.0)

"""What a step costs, by hand, and which way it pulls."""

import math
from dataclasses import replace

import pytest
import torch

from rpo_cli import registry
from rpo_cli.train.objectives.online import D3PO, DDPO, PPOD_ONLINE, OnlineObjective
from rpo_cli.train.online.losses import beyond_shares, losses
from tests.closeness import assert_close

NAMES = list(registry.online_objectives)
PAIRED = [name for name in NAMES if registry.load("objectives", name).paired]
SINGLE = [name for name in NAMES if name not in PAIRED]


def objective_of(name) -> OnlineObjective:
    return registry.load("objectives", name)


def slope(objective, ratios, advantage=None, beta=1.0):
    """d loss / d ℓ of the given log-ratios, (steps, width, items)."""
    leaf = torch.tensor(ratios, dtype=torch.float64).requires_grad_()
    advantage = None if advantage is None else torch.tensor(advantage, dtype=torch.float64)
    (found,) = torch.autograd.grad(losses(objective, leaf, advantage, beta).sum(), leaf)
    return found


def test_ppo_by_hand():
    """ϵ = 0.1: A = 2 at ρ = 1.3 is held at 1.1; at ρ = 0.5 it is not held; A = −1 the other way round."""
    objective = replace(DDPO, clip=0.1)
    ratios = torch.tensor([[[math.log(1.3), math.log(0.5), math.log(1.3), math.log(0.5)]]])
    advantage = torch.tensor([[2.0, 2.0, -1.0, -1.0]])
    found = losses(objective, ratios, advantage, 0.0)
    assert found.tolist()[0] == pytest.approx([-2.2, -1.0, 1.3, 0.9])


def test_a_step_that_went_the_wrong_way_keeps_its_gradient():
    """PPO's pessimism: only what has already moved the right way beyond the band stops teaching."""
    objective = replace(DDPO, clip=0.1)
    good_up, bad_up = slope(objective, [[[0.2, -0.2]]], [[1.0, 1.0]])[0, 0].tolist()
    bad_down, good_down = slope(objective, [[[0.2, -0.2]]], [[-1.0, -1.0]])[0, 0].tolist()
    assert (good_up, good_down) == (0, 0)
    assert bad_up < 0
    assert bad_down > 0


@pytest.mark.parametrize("name", SINGLE)
def test_no_advantage_teaches_nothing(name):
    assert slope(objective_of(name), [[[0.0, 0.2, -0.2]]], [[0.0] * 3]).tolist() == [[[0.0] * 3]]


@pytest.mark.parametrize("name", SINGLE)
def test_at_ratio_one_the_gradient_is_that_of_the_policy_gradient(name):
    """d/dℓ = −A: REINFORCE with an advantage."""
    assert slope(objective_of(name), [[[0.0, 0.0]]], [[1.5, -2.0]]).tolist() == [[[-1.5, 2.0]]]


@pytest.mark.parametrize("name", PAIRED)
def test_equal_ratios_cost_log_two_and_pull_winner_up_and_loser_down(name):
    objective = objective_of(name)
    zero = torch.zeros(3, 2, 4)
    found = losses(objective, zero, None, 1.0)
    assert_close(found, torch.full_like(found, math.log(2)))
    pull = slope(objective, zero.tolist())
    assert (pull[:, 0] == -0.5).all()
    assert (pull[:, 1] == 0.5).all()


@pytest.mark.parametrize("name", PAIRED)
def test_swapping_a_pair_at_unbounded_ratios_negates_the_logit(name):
    objective = replace(objective_of(name), clip=0.9, link="identity")
    ratios = torch.tensor([[[0.1, 0.2], [-0.3, 0.05]]])
    assert_close(losses(objective, ratios, None, 3.0), -losses(objective, ratios.flip(1), None, 3.0))


def test_ppod_sums_the_steps_inside_the_link_and_d3po_does_not():
    ratios = torch.tensor([[[0.01], [-0.02]], [[0.03], [0.0]]])  # two steps of one pair
    ppod, d3po = replace(PPOD_ONLINE, clip=0.5), replace(D3PO, clip=0.5)
    assert losses(ppod, ratios, None, 10.0).item() == pytest.approx(math.log1p(math.exp(-0.6)))
    expected = [math.log1p(math.exp(-0.3)), math.log1p(math.exp(-0.3))]
    assert losses(d3po, ratios, None, 10.0).flatten().tolist() == pytest.approx(expected)


def test_a_winner_gone_wrong_keeps_its_gradient_in_ppod_and_loses_it_in_d3po():
    """At −.2 beyond a band of .1 D3PO's plain clamp gives the winner no way back; PPO's minimum does
    (arXiv:1707.06347, eq. 7)."""
    for objective, expected in ((PPOD_ONLINE, True), (D3PO, False)):
        held = replace(objective, clip=0.1)
        winner, loser = slope(held, [[[-0.2], [0.2]]])[0, :, 0].tolist()
        assert (winner < 0) == expected
        assert (loser > 0) == expected
        assert slope(held, [[[0.2], [-0.2]]]).abs().max() == 0


@pytest.mark.parametrize("name", PAIRED)
def test_the_bound_of_a_logit_is_the_bands(name):
    """At twice the band the logit is β·(log(1 + ϵ) − log(1 − ϵ)) a step."""
    objective = replace(objective_of(name), link="identity")
    far = torch.tensor([[[1.0], [-1.0]]])
    width = math.log1p(objective.clip) - math.log1p(-objective.clip)
    assert losses(objective, far, None, 2.0).item() == pytest.approx(2 * width, rel=1e-3)


def test_links_other_than_the_logistic_are_those_of_pairs():
    ratios = torch.tensor([[[0.2], [0.0]]])
    ipo = replace(PPOD_ONLINE, clip=0.5, link="ipo")
    slic = replace(PPOD_ONLINE, clip=0.5, link="slic")
    assert losses(ipo, ratios, None, 1.0).item() == pytest.approx(0.09)
    assert losses(slic, ratios, None, 1.0).item() == pytest.approx(0.8)


@pytest.mark.parametrize("name", NAMES)
def test_runaway_ratios_give_finite_losses(name):
    objective = objective_of(name)
    ratios = torch.tensor([[[-50.0, 20.0]] * objective.width])
    advantage = None if objective.paired else torch.tensor([[-5.0, 5.0]])
    assert torch.isfinite(losses(objective, ratios, advantage, objective.default_beta or 1.0)).all()


def test_shares_beyond_the_band_are_told_by_side_and_direction():
    pair = torch.tensor([[[0.2, 0.2, -0.2, 0.0], [-0.2, 0.0, 0.2, 0.2]]])
    assert beyond_shares(replace(PPOD_ONLINE, clip=0.1), pair, None) == {
        "winner_beyond_good": 0.5,
        "winner_beyond_bad": 0.25,
        "loser_beyond_good": 0.25,
        "loser_beyond_bad": 0.5,
    }
    single = torch.tensor([[[0.2, -0.2, 0.2, -0.2]]])
    advantage = torch.tensor([[1.0, 1.0, -1.0, -1.0]])
    found = beyond_shares(replace(DDPO, clip=0.1), single, advantage)
    assert {name: float(share) for name, share in found.items()} == {
        "better_beyond_good": 0.25,
        "better_beyond_bad": 0.25,
        "worse_beyond_good": 0.25,
        "worse_beyond_bad": 0.25,
    }

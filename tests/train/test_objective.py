"""Objectives against values worked out by hand and properties from theory."""

import math

import pytest
import torch

from rpo_cli import registry
from rpo_cli.errors import RpoError
from rpo_cli.train.objective import DPO, SFT, Errors, implicit_accuracy, implicit_margin


def errors(policy, reference=None, *, grad=False) -> Errors:
    """Winners first, then losers."""
    m = torch.tensor(policy, requires_grad=grad)
    return Errors(m, None if reference is None else torch.tensor(reference))


def random_errors(seed: int, pairs: int = 6) -> Errors:
    generator = torch.Generator().manual_seed(seed)
    m, r = torch.rand(2, 2 * pairs, generator=generator)
    return Errors(m, r)


def swapped(found: Errors) -> Errors:
    half = len(found.policy) // 2
    return Errors(found.policy.roll(half), found.reference.roll(half))


# name → (m_w, m_l, r_w, r_l), beta, loss worked out by hand
HAND = {
    # s_w = -0.0002, s_l = 0.0004: h = -(5000/2)(-0.0006) = 1.5; -log sigma(1.5) = 0.2014133
    "dpo": ((0.0998, 0.2004, 0.1, 0.2), 5000.0, 0.2014133),
    "sft": ((0.25, 0.75, None, None), 1.0, 0.25),
}


@pytest.mark.parametrize("name", registry.objectives)
def test_every_objective_has_its_hand_computed_value(name):
    (m_w, m_l, r_w, r_l), beta, loss = HAND[name]
    found = errors([m_w, m_l], None if r_w is None else [r_w, r_l])
    assert registry.load("objectives", name).losses(found, beta).item() == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("name", registry.objectives)
def test_every_objective_names_its_scale_and_source(name):
    objective = registry.load("objectives", name)
    assert objective.name == name
    assert objective.source
    assert objective.beta_unit


def test_dpo_logit_has_the_half_of_salesforce():
    found = errors([0.1, 0.3], [0.2, 0.2])
    assert DPO.logits(found, 10.0).item() == pytest.approx(-0.5 * 10 * (-0.1 - 0.1))


@pytest.mark.parametrize("seed", range(5))
def test_swapping_a_pair_negates_its_logit(seed):
    found = random_errors(seed)
    assert torch.equal(DPO.logits(swapped(found), 50.0), -DPO.logits(found, 50.0))


def test_a_policy_equal_to_its_reference_costs_ln_2_per_pair():
    m = torch.rand(8)
    losses = DPO.losses(Errors(m, m.clone()), 5000.0)
    assert torch.allclose(losses, torch.full((4,), math.log(2)), atol=1e-7)


def test_the_loss_falls_when_the_winner_gets_easier_and_when_the_loser_gets_harder():
    found = errors([0.5, 0.5], [0.5, 0.5], grad=True)
    DPO.losses(found, 100.0).sum().backward()
    winner, loser = found.policy.grad
    assert winner > 0
    assert loser < 0
    assert winner == -loser


def test_the_gradient_is_beta_over_two_times_the_doubt():
    found = errors([0.51, 0.5], [0.5, 0.5], grad=True)
    DPO.losses(found, 100.0).sum().backward()
    h = -0.5 * 100 * 0.01
    assert found.policy.grad[0].item() == pytest.approx(50 * (1 - 1 / (1 + math.exp(-h))), rel=1e-4)


def test_sft_ignores_the_loser_and_the_reference():
    found = errors([0.2, 0.9], grad=True)
    SFT.losses(found, 5000.0).sum().backward()
    assert found.policy.grad.tolist() == [1.0, 0.0]


def test_a_weight_multiplies_the_logit_inside_the_link():
    found = random_errors(0)
    weight = torch.full((6,), 0.5)
    assert torch.equal(DPO.losses(found, 10.0, weight), DPO.losses(found, 5.0))
    assert torch.equal(DPO.losses(found, 10.0, torch.ones(6)), DPO.losses(found, 10.0))


@pytest.mark.parametrize(("m_w", "expected"), [(1e3, 5e6), (-1e3, 0.0)])
def test_extreme_logits_give_finite_losses_and_gradients(m_w, expected):
    found = errors([m_w, 0.0], [0.0, 0.0], grad=True)
    losses = DPO.losses(found, 1e4)
    losses.sum().backward()
    assert losses.item() == pytest.approx(expected)
    assert torch.isfinite(found.policy.grad).all()


def test_dpo_without_a_reference_is_an_error():
    with pytest.raises(RpoError, match="reference"):
        DPO.losses(errors([0.1, 0.2]), 1.0)


def test_losses_are_float32_for_float32_errors_and_one_per_pair():
    losses = DPO.losses(random_errors(1), 5000.0)
    assert losses.dtype == torch.float32
    assert losses.shape == (6,)


def test_ties_count_half_in_the_implicit_accuracy():
    # margins s_l - s_w: +, 0, -, 0
    found = errors([0.1, 0.2, 0.4, 0.3, 0.3, 0.2, 0.1, 0.3], [0.2] * 8)
    assert implicit_margin(found).sign().tolist() == [1.0, 0.0, -1.0, 0.0]
    assert implicit_accuracy(implicit_margin(found)).item() == 0.5
    assert implicit_accuracy(torch.tensor([1.0, 1.0, 0.0, -1.0])).item() == pytest.approx(2.5 / 4)

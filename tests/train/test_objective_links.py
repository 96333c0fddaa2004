"""Links against values worked out by hand, and what all of them have in common."""

import math

import pytest
import torch

from rpo_cli.train.objectives.objective import LINKS

# link → {z: value}; worked out by hand
HAND = {
    "logistic": {0.0: math.log(2), 1.5: 0.2014133, -200.0: 200.0},
    "ipo": {0.0: 0.25, 0.5: 0.0, 2.0: 2.25},
    "modified-ipo": {0.0: 0.25, 0.5: 0.0, 2.0: 0.0, -1.0: 2.25},
    "slic": {0.0: 1.0, 0.75: 0.25, 1.0: 0.0, 3.0: 0.0},
    # -log(1/2 + arctan(1)/pi) = -log 0.75; for z -> -inf log(pi |z|)
    "cauchy": {0.0: math.log(2), 1.0: 0.2876821, -1.0: math.log(4), -1e8: 19.5654},
    "exponential": {0.0: 1.0, 1.0: math.exp(-1), -20.0: math.exp(20), -50.0: math.exp(20)},
    "utility": {0.0: 0.5, 1.0: 0.2689414},
    "identity": {3.0: 3.0},
}
FALLING = [name for name in LINKS if name not in ("identity", "ipo")]


@pytest.mark.parametrize(("name", "z", "value"), [(n, z, v) for n in HAND for z, v in HAND[n].items()])
def test_every_link_has_its_hand_computed_values(name, z, value):
    assert LINKS[name](torch.tensor(z)).item() == pytest.approx(value, rel=1e-5, abs=1e-7)


def test_the_table_is_complete():
    assert HAND.keys() == LINKS.keys()


@pytest.mark.parametrize("name", FALLING)
def test_a_link_never_rises_with_the_logit(name):
    z = torch.linspace(-30, 30, 601)
    assert (LINKS[name](z).diff() <= 1e-6).all()


def test_ipo_pulls_back_from_beyond_its_margin_and_the_modified_one_does_not():
    z = torch.tensor([0.4, 0.6], requires_grad=True)
    for name, signs in (("ipo", [-1, 1]), ("modified-ipo", [-1, 0])):
        (slope,) = torch.autograd.grad(LINKS[name](z).sum(), z)
        assert slope.sign().tolist() == signs


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("z", [-1e6, -100.0, 0.0, 100.0, 1e6])
def test_gradients_are_finite_at_any_logit(name, z):
    """log(sigmoid(z)), as some scripts write it, is -inf below -104."""
    at = torch.tensor(z, requires_grad=True)
    value = LINKS[name](at)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(at.grad)

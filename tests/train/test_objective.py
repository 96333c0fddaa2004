"""Objectives against values worked out by hand and properties from theory."""

import math
from dataclasses import replace

import pytest
import torch

from rpo_cli import registry
from rpo_cli.errors import RpoError
from rpo_cli.train.objectives.objective import Errors, Known, implicit_accuracy, implicit_margin
from rpo_cli.train.objectives.presets import DPO, SFT
from tests.closeness import assert_close


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


TWO_PAIRS = ([0.0998, 0.1, 0.2004, 0.2], [0.1, 0.1, 0.2, 0.2])  # h = 1.5 and 0 at beta 5000
AXES = torch.tensor([[[1.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]])  # (2, D, B) features
LIST = ([-0.0004, 0.0, 0.0004], [0.0] * 3)  # h = 1, 0, -1 at beta 5000

# name → (m, r), beta, losses worked out by hand (and by calculator), what else is known, changed parts
HAND = {
    # s_w = -0.0002, s_l = 0.0004: h = -(5000/2)(-0.0006) = 1.5; -log sigma(1.5) = 0.2014133
    "dpo": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [0.2014133]),
    # what is theirs is where the pairs come from (tests/line/test_rounds.py)
    "spin": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [0.2014133]),
    "sapo": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [0.2014133]),
    "dense": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [0.2014133]),
    "sft": (([0.25, 0.75], None), 1.0, [0.25]),
    # h = 1.5: (1.5 - 0.5)^2; h = 0.75: 1 - 0.75
    "ipo": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [1.0]),
    "slic": (([0.0998, 0.2004], [0.1, 0.2]), 2500.0, [0.25]),
    # l = 0.5, -1.0; g = l + ln 2 - ln(1 + e^l) = 0.219070, -0.620115; z = 0.839185
    "f-dpo": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [0.3591158]),
    # g = 0.9752083, 0.9508331; z = 40 * 0.0243752 = 0.975008; 0.1 + 0.1 * 0.3200455
    "mapo": (([0.1, 0.2], None), 40.0, [0.1320045]),
    # z = 0.5 (50 (0.03 - 0.25 * 0.02) - 0.75 * 1) = 0.25
    "rainbow": (([0.1, 0.13], [0.1, 0.12]), 100.0, [0.5759394], Known(weight=torch.tensor([0.5]))),
    # z = 2 * 0.75 and 0.5 * 1.5
    "smpo": (([0.0998, 0.2004], [0.1, 0.2]), 2500.0, [0.2014133], Known(weight=torch.tensor([2.0]))),
    "mallows": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [0.3868710], Known(weight=torch.tensor([0.5]))),
    # z = -1.5
    "npo": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [1.7014133]),
    # losses l = 0.2014133, 0.6931472; 2 l e^l / (e^l1 + e^l2)
    "ir-dro": (TWO_PAIRS, 5000.0, [0.1528667, 0.8602162], Known(), {"group_size": 2}),
    # v = 0.5, -1, mean < 0 so Q = 0: mean of 1 - sigma(0.5) and 1 - sigma(1)
    "kto": (([0.0998, 0.2004], [0.1, 0.2]), 5000.0, [0.3232410], Known(), {"group_size": 1}),
    # omega = 0.880797, 0.119203; z = 1.321196, 0.059602 and 0.880797, 0; means of -log sigma
    "relative": (
        ([0.0998, 0.1, 0.2004, 0.2], [0.1, 0.1, 0.2, 0.2]),
        5000.0,
        [0.4501486, 0.5199448],
        Known(features=AXES),
        {"group_size": 2, "temperature": 0.5},
    ),
    # log(e + 1 + 1/e) - 1 + log(1 + 1/e)
    "plackett-luce": (LIST, 5000.0, [0.7208677]),
    # gains 1, 0.5, 0: G = 1, 0.414214, 0; 1/D = 1.442695, 0.910239, 0.721348
    "rank-dpo": (LIST, 5000.0, [0.2137773], Known(gains=torch.tensor([[1.0], [0.5], [0.0]]))),
    # h = 0.01, c = 0.4975: (1-c)^2 0.1 + 2c(1-c) 0.11 + c^2 0.12
    "dspo": (([0.1, 0.2], [0.12, 0.2]), 1.0, [0.10995]),
    # l_w = 0.2 -> log 1.1, l_l = -0.05 stays; z = 10 (0.0953102 + 0.05)
    "ppod": (([0.1, 0.6], [0.5, 0.5]), 10.0, [0.2101344], Known(ratio=torch.ones(1)), {"clip": 0.1}),
    # l_w = -0.3 -> log 0.9, l_l = 0.3 -> log 1.1; z = -10 * 0.2006707
    "ppod-clamped": (
        ([1.1, 0.1], [0.5, 0.7]),
        10.0,
        [2.1328378],
        Known(ratio=torch.ones(1)),
        {"clip": 0.1},
    ),
}


@pytest.mark.parametrize("name", registry.objectives)
def test_every_objective_has_its_hand_computed_value(name):
    (m, r), beta, losses, *rest = HAND[name]
    known, changed = (rest + [Known(), {}][len(rest) :])[:2]
    objective = replace(registry.load("objectives", name), **changed)
    width = 3 if objective.listwise else 2
    cross = torch.tensor([0.11, 0.2]) if objective.needs_cross else None
    reference = None if r is None else torch.tensor(r)
    found = Errors(torch.tensor(m), reference, cross, known, width)
    assert objective.losses(found, beta).tolist() == pytest.approx(losses, rel=1e-4)


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
    assert_close(losses, torch.full((4,), math.log(2)))


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


def test_the_offset_of_kto_carries_no_gradient():
    """z_w = -(beta/2)u_w - Q: the gradient of the first z is -beta/2 at its own error and 0 elsewhere."""
    kto = replace(registry.load("objectives", "kto"), group_size=2)
    found = errors([0.1, 0.1, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2], grad=True)
    z = kto.logits(found, 10.0)
    assert z.detach().tolist() == [[pytest.approx(0.0)] * 2] * 2  # all are better by Q
    z[0, 0].backward()
    assert found.policy.grad.tolist() == [-5.0, 0.0, 0.0, 0.0]


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

"""What holds for every objective of the registry, so that a new one is covered by adding its line."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from rpo_cli import registry
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.train import step
from rpo_cli.train.objectives.grouped import IR_DRO, KTO, PLACKETT_LUCE, RANK_DPO, RELATIVE
from rpo_cli.train.objectives.objective import SALESFORCE, Errors, Known, Objective, join, ranks
from rpo_cli.train.objectives.presets import (
    DPO,
    DSPO,
    F_DPO,
    IPO,
    MALLOWS,
    PPOD,
    PPOD_CLAMPED,
    RAINBOW,
    SMPO,
)
from tests.closeness import assert_close

NAMES = list(registry.objectives)
GROUPS = 3


def objective_of(name: str) -> Objective:
    """A registered objective with groups and lists of a size that tests can follow."""
    found: Objective = registry.load("objectives", name)
    changed = {"group_size": 4} if found.group_size > 1 else {}
    return replace(found, **changed, **({"list_size": 3} if found.listwise else {}))


def errors_of(objective: Objective, seed: int = 0, *, equal: bool = False, spread: float = 0.01) -> Errors:
    """Random errors of three groups, with all that an objective may ask to know."""
    generator = torch.Generator().manual_seed(seed)
    width = objective.list_size if objective.listwise else 2
    items = GROUPS * max(objective.group_size, 2)
    reference = 0.1 + 0.1 * torch.rand(width, items, generator=generator)
    policy = reference + (0 if equal else spread) * torch.randn(width, items, generator=generator)
    features = torch.randn(2, 8, items, generator=generator)
    known = Known(
        weight=None if objective.pair_weight == "none" else 0.5 + torch.rand(items, generator=generator),
        ratio=0.01 * torch.ones(items) if objective.clip else None,
        gains=torch.rand(width, items, generator=generator).sort(dim=0, descending=True).values,
        features=features / features.norm(dim=1, keepdim=True),
    )
    cross = 0.5 * (policy + reference)
    policy = policy.abs().reshape(-1).requires_grad_()
    return Errors(policy, reference.reshape(-1), cross.reshape(-1), known, width)


def gradient(objective: Objective, errors: Errors, beta: float) -> torch.Tensor:
    (found,) = torch.autograd.grad(objective.losses(errors, beta).sum(), errors.policy)
    return ranks(found, errors.width)


def beta_of(objective: Objective) -> float:
    """Small enough that nothing saturates at the errors above."""
    if objective.clip:
        return objective.default_beta or 1.0
    return min(objective.default_beta or 1.0, 50.0)


@pytest.mark.parametrize("name", NAMES)
def test_one_finite_float32_loss_per_item(name):
    objective = objective_of(name)
    errors = errors_of(objective)
    losses = objective.losses(errors, beta_of(objective))
    assert losses.shape == (errors.policy.numel() // errors.width,)
    assert losses.dtype == torch.float32
    assert torch.isfinite(losses).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_pulls_winners_down_and_pushes_losers_up_or_leaves_them(name):
    """Where the policy still equals its reference; npo is the one that is meant to do the opposite."""
    objective = objective_of(name)
    slope = gradient(objective, errors_of(objective, equal=True), beta_of(objective))
    slope = -slope if name == "npo" else slope
    taught = slope[:, slope[0] != 0]
    assert taught.shape[1] >= GROUPS  # ir-dro leaves some out
    assert (taught[0] > 0).all()
    assert (taught[-1] <= 0).all()
    assert (taught[-1] < 0).all() == objective.compares


@pytest.mark.parametrize("name", NAMES)
def test_a_group_does_not_see_other_groups_nor_their_order(name):
    """So any split of the global batch into whole groups gives the same losses."""
    objective = objective_of(name)
    errors, size = errors_of(objective), max(objective.group_size, 2)
    whole = objective.losses(errors, beta_of(objective))
    for group in (2, 0, 1):
        places = slice(group * size, (group + 1) * size)
        part = at(errors, places)
        assert_close(objective.losses(part, beta_of(objective)), whole[places])


def at(errors: Errors, places: slice) -> Errors:
    """Some items of a batch."""

    def of(values):
        return None if values is None else ranks(values, errors.width)[:, places].reshape(-1)

    known = Known(**{n: None if v is None else v[..., places] for n, v in vars(errors.known).items()})
    return Errors(of(errors.policy), of(errors.reference), of(errors.cross), known, errors.width)


@pytest.mark.parametrize("name", NAMES)
def test_joined_parts_are_the_batch_they_came_from(name):
    objective = objective_of(name)
    errors = errors_of(objective)
    size = max(objective.group_size, 2)
    joined = join([at(errors, slice(g * size, (g + 1) * size)) for g in range(GROUPS)])
    assert torch.equal(joined.policy, errors.policy)
    assert torch.equal(
        objective.losses(joined, beta_of(objective)), objective.losses(errors, beta_of(objective))
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_runaway_errors_give_finite_losses_and_gradients(name, spread):
    objective = objective_of(name)
    errors = errors_of(objective, spread=spread)
    beta = objective.default_beta or 1.0
    assert torch.isfinite(objective.losses(errors, beta)).all()
    assert torch.isfinite(gradient(objective, errors, beta)).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_made_where_the_errors_are(name):
    """On the device without numbers: a tensor left on the CPU would be refused."""
    objective = objective_of(name)
    errors = errors_of(objective)
    known = Known(**{n: None if v is None else v.to("meta") for n, v in vars(errors.known).items()})
    moved = Errors(
        *(value.detach().to("meta") for value in (errors.policy, errors.reference, errors.cross)),
        known,
        errors.width,
    )
    assert objective.losses(moved, beta_of(objective)).device.type == "meta"


@pytest.mark.parametrize("name", NAMES)
def test_what_it_needs_is_said(name):
    objective = registry.load("objectives", name)
    assert objective.needs_reference == objective.needs.startswith("a reference")
    assert all(column in objective.needs for column in objective.columns)
    assert ("groups" in objective.needs) == (objective.group_size > 1)
    assert ("embedder" in objective.needs) == objective.needs_embedder
    assert ("cross" in objective.needs) == objective.needs_cross
    assert all(hasattr(objective, part) for part in objective.open)


@pytest.mark.parametrize("name", NAMES)
def test_the_start_is_judged_by_how_far_the_logits_are_from_those_of_equal_models(name):
    """Compiled, so that a little is allowed: also where equal models have logits that are not 0."""
    objective = objective_of(name)
    beta = 1.0 if name == "dspo" else objective.default_beta
    job = SimpleNamespace(
        settings=TrainSettings(compile=True), objective=objective, beta=beta, starts_equal=True
    )
    if objective.needs_reference:
        errors = errors_of(objective, equal=True)
        step.require_equal_start(errors, job)
        step.require_equal_start(replace(errors, policy=errors.policy * (1 + 1e-7)), job)
        with pytest.raises(RpoError, match="differs from its reference"):
            step.require_equal_start(errors_of(objective, spread=1.0 if name == "dspo" else 0.05), job)


# --- special cases ------------------------------------------------------------------------------------

UNLIKE_PAIRS = ("sft", "dspo", "kto", "relative", "rainbow", "plackett-luce", "rank-dpo")
PAIRED = [name for name in NAMES if name not in UNLIKE_PAIRS]


@pytest.mark.parametrize("name", PAIRED)
def test_swapping_a_pair_negates_its_logit(name):
    objective = objective_of(name)
    errors = errors_of(objective)
    swapped = replace(
        errors,
        policy=ranks(errors.policy).flip(0).reshape(-1),
        reference=ranks(errors.reference).flip(0).reshape(-1),
    )
    beta = beta_of(objective)
    if name == "ppod":  # its sides are clipped on different ends
        objective = replace(objective, clip=0.5)
    assert_close(objective.logits(swapped, beta), -objective.logits(errors, beta))


@pytest.mark.parametrize("name", [n for n in PAIRED if registry.load("objectives", n).link == "logistic"])
def test_a_policy_equal_to_its_reference_costs_ln_2(name):
    objective = replace(objective_of(name), sft_weight=0.0, scale=1.0)
    errors = errors_of(objective, equal=True)
    if not objective.needs_reference:
        errors = replace(errors, policy=torch.full_like(errors.policy, 0.1))
    losses = objective.losses(errors, beta_of(objective))
    kept = losses[losses != 0]  # ir-dro leaves out one in four here, and lets the rest weigh more
    assert kept.mean().item() * len(kept) / len(losses) == pytest.approx(math.log(2), rel=1e-6)


@pytest.mark.parametrize("part", [MALLOWS, SMPO, IPO])
def test_a_weight_of_one_is_no_weight(part):
    errors = errors_of(DPO)
    ones = replace(errors, known=Known(weight=torch.ones(6)))
    assert torch.equal(part.losses(ones, 50.0), replace(part, pair_weight="none").losses(errors, 50.0))
    if part is not IPO:
        assert torch.equal(part.losses(ones, 50.0), DPO.losses(errors, 50.0))


def test_rainbow_with_the_whole_reference_and_no_weight_is_dpo():
    errors = errors_of(DPO)
    assert torch.equal(replace(RAINBOW, reference_mix=1.0).losses(errors, 50.0), DPO.losses(errors, 50.0))


def test_f_dpo_with_reverse_kl_is_dpo():
    errors = errors_of(DPO)
    found = replace(F_DPO, divergence="reverse-kl").losses(errors, 50.0)
    assert_close(found, DPO.losses(errors, 50.0))


def test_the_alpha_divergence_is_forward_kl_at_one_and_reverse_kl_near_zero():
    errors = errors_of(F_DPO)
    alpha = replace(F_DPO, divergence="alpha")
    forward = replace(F_DPO, divergence="forward-kl").logits(errors, 50.0)
    assert_close(replace(alpha, divergence_alpha=1.0).logits(errors, 50.0), forward)
    near = replace(alpha, divergence_alpha=1e-4).logits(errors, 50.0)
    assert_close(near, DPO.logits(errors, 50.0), steps=1024)  # α is 1e-4 off


def test_lists_of_two_are_pairs():
    errors = errors_of(DPO)
    assert_close(PLACKETT_LUCE.losses(errors, 50.0), DPO.losses(errors, 50.0))
    unanimous = replace(errors, known=Known(gains=torch.tensor([[1.0], [0.0]]).expand(2, 6)))
    discount = 1 / math.log(2) - 1 / math.log(3)
    assert_close(RANK_DPO.losses(unanimous, 50.0), discount * DPO.losses(errors, 50.0))


def test_plackett_luce_is_minus_the_log_probability_of_the_ranking():
    """Over all rankings of three pictures the probabilities add up to one."""
    errors = errors_of(objective_of("plackett-luce"))
    total = torch.zeros(errors.policy.numel() // 3)
    for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        ranked = replace(
            errors,
            policy=ranks(errors.policy, 3)[list(order)].reshape(-1),
            reference=ranks(errors.reference, 3)[list(order)].reshape(-1),
        )
        total += torch.exp(-PLACKETT_LUCE.losses(ranked, 50.0))
    assert_close(total, torch.ones_like(total))


def test_equal_gains_teach_nothing_in_rank_dpo():
    errors = replace(errors_of(objective_of("rank-dpo")), known=Known(gains=torch.full((3, 6), 0.5)))
    assert (gradient(RANK_DPO, errors, 50.0) == 0).all()


def test_smpo_teaches_nothing_where_the_soft_label_is_one_half():
    from rpo_cli.train.data.pairs import TrainingPair
    from rpo_cli.train.knowledge import pair_weight

    coin = pair_weight("smooth-margin", TrainingPair("w", "l", "c", margin=0.0), 1.0)
    errors = replace(errors_of(DPO), known=Known(weight=torch.full((6,), coin)))
    assert (gradient(SMPO, errors, 50.0) == 0).all()


def test_label_smoothing_of_one_half_teaches_nothing_at_a_logit_of_zero_only():
    smoothed = replace(DPO, label_smoothing=0.5)
    assert (gradient(smoothed, errors_of(DPO, equal=True), 50.0) == 0).all()
    errors = errors_of(DPO)
    slope = gradient(smoothed, errors, 50.0)[0]
    h = DPO.logits(errors, 50.0)
    assert_close(slope, -25 * (torch.sigmoid(h) - 0.5), scale=12.5)


def test_a_soft_label_of_one_is_the_hard_label_and_of_zero_the_swapped_pair():
    errors = errors_of(DPO)
    sure = DPO.losses(replace(errors, known=Known(label=torch.ones(6))), 50.0)
    assert torch.equal(sure, DPO.losses(errors, 50.0))
    wrong = DPO.losses(replace(errors, known=Known(label=torch.zeros(6))), 50.0)
    assert_close(wrong, torch.nn.functional.softplus(DPO.logits(errors, 50.0)))


def test_an_sft_term_adds_the_winners_error():
    errors = errors_of(DPO)
    both, alone = replace(DPO, sft_weight=0.3).losses(errors, 50.0), DPO.losses(errors, 50.0)
    assert_close(both, alone + 0.3 * ranks(errors.policy)[0], steps=4)


def test_a_margin_asks_for_more_and_counts_less_with_more_reference():
    errors = errors_of(DPO)
    for mix in (0.0, 0.25, 1.0):
        without = replace(RAINBOW, reference_mix=mix, margin=0.0).logits(errors, 50.0)
        asked = replace(RAINBOW, reference_mix=mix, margin=2.0).logits(errors, 50.0)
        assert_close(without - asked, torch.full((6,), (1 - mix) * 2.0))


def test_no_reference_is_read_at_a_mix_of_zero():
    errors = replace(errors_of(DPO), reference=None, known=Known())
    assert torch.isfinite(replace(RAINBOW, reference_mix=0.0).losses(errors, 50.0)).all()


# --- proximal -----------------------------------------------------------------------------------------


def step_errors(winner: float, loser: float) -> Errors:
    """One pair whose log-ratios of a step are `winner` and `loser`."""
    policy = torch.tensor([-2 * winner, -2 * loser], requires_grad=True)
    return Errors(policy, torch.zeros(2), known=Known(ratio=torch.ones(1)))


@pytest.mark.parametrize(
    ("winner", "loser", "pessimistic", "clamped"),
    [
        (-0.2, 0.0, (True, True), (False, True)),  # the winner went the wrong way: PPO brings it back
        (0.2, 0.0, (False, True), (False, True)),  # it went the right way beyond the band
        (0.0, 0.2, (True, True), (True, False)),  # the loser went the wrong way
        (0.0, -0.2, (True, False), (True, False)),
        (0.05, -0.05, (True, True), (True, True)),
    ],
)
def test_only_a_side_that_moved_the_right_way_beyond_the_band_stops_teaching(
    winner, loser, pessimistic, clamped
):
    for preset, expected in ((PPOD, pessimistic), (PPOD_CLAMPED, clamped)):
        slope = gradient(replace(preset, clip=0.1), step_errors(winner, loser), 1.0)[:, 0]
        assert tuple((slope != 0).tolist()) == expected, preset.name


def test_the_proximal_term_is_ppos_minimum_per_image():
    """log min(A ρ, A clip ρ) with A = 1 for the winner and -1 for the loser, on a grid of ratios."""
    for ratio in (0.5, 0.85, 0.95, 1.0, 1.05, 1.2, 2.0):
        z = replace(PPOD, clip=0.1).logits(step_errors(math.log(ratio), math.log(ratio)), 1.0).item()
        clipped = min(max(ratio, 0.9), 1.1)
        winner, loser = min(ratio, clipped), -min(-ratio, -clipped)
        assert z == pytest.approx(math.log(winner) - math.log(loser), abs=1e-6)


def test_the_bare_clamp_bounds_the_logit():
    errors = step_errors(3.0, -3.0)
    z = replace(PPOD_CLAMPED, clip=0.1).logits(errors, 10.0).item()
    assert z == pytest.approx(10 * (math.log(1.1) - math.log(0.9)))
    assert PPOD.default_beta * 2 * PPOD.clip == pytest.approx(2.0)


def test_ppod_inside_the_band_is_dpo_at_another_scale():
    errors = errors_of(PPOD, spread=1e-5)
    z = PPOD.logits(errors, 1000.0)
    assert_close(z, DPO.logits(errors, 1000.0 * 0.01))


# --- coupled ------------------------------------------------------------------------------------------


def test_kto_judges_against_the_mean_of_its_group_without_gradient():
    objective = replace(KTO, group_size=2)
    policy = torch.tensor([-0.04, -0.02, -0.02, 0.0], requires_grad=True)  # v = 1, 0.5, 0.5, 0 at beta 50
    errors = Errors(policy, torch.zeros(4))
    assert_close(objective.logits(errors, 50.0), torch.tensor([[0.5, 0.0], [0.0, 0.5]]))
    slope = gradient(objective, errors, 50.0)
    s = 1 / (1 + math.exp(-0.5))
    assert slope[0].tolist() == pytest.approx([0.5 * 25 * s * (1 - s), 0.5 * 25 * 0.25], rel=1e-5)


def test_kto_weights_its_classes():
    errors = errors_of(replace(KTO, group_size=4))
    losers_only = replace(KTO, group_size=4, desirable_weight=0.0)
    slope = gradient(losers_only, errors, 50.0)
    assert (slope[0] == 0).all()
    assert (slope[1] < 0).all()


def test_relative_with_one_pair_is_dpo_and_with_equal_features_dpo_of_all_pairs():
    errors = errors_of(replace(RELATIVE, group_size=4))
    alone = replace(RELATIVE, group_size=1)
    assert_close(alone.losses(errors, 50.0), DPO.losses(errors, 50.0))
    same = replace(errors, known=Known(features=torch.ones(2, 1, 12)))
    found = replace(RELATIVE, group_size=4).losses(same, 200.0)
    relative = ranks(errors.policy - errors.reference).view(2, 3, 4)
    for group in range(3):
        for i in range(4):
            z = [-25.0 * (relative[0, group, i] - relative[1, group, j]) for j in range(4)]
            expected = torch.stack([torch.nn.functional.softplus(-each) for each in z]).mean()
            assert found[group * 4 + i].item() == pytest.approx(expected.item(), rel=1e-5)


def test_ir_dro_leans_on_hard_pairs_and_leaves_out_the_hardest():
    objective = replace(IR_DRO, group_size=4, dro_trim=0.25)
    errors = errors_of(objective)
    base, found = DPO.losses(errors, 50.0).view(3, 4), objective.losses(errors, 50.0).view(3, 4)
    weights = found / base
    assert_close(weights.mean(dim=1), torch.ones(3))
    order = base.argsort(dim=1)
    ordered = weights.gather(1, order)
    assert (ordered[:, 3] == 0).all()
    assert (ordered[:, :3].diff(dim=1) > 0).all()
    even = replace(objective, dro_temperature=1e6, dro_trim=0.0)
    assert_close(even.losses(errors, 50.0).view(3, 4), base)


def test_dspo_is_sft_without_beta_and_has_no_gradient_through_the_doubt():
    errors = errors_of(DSPO)
    assert_close(DSPO.losses(errors, 1e-9), ranks(errors.policy)[0])
    generator = torch.Generator().manual_seed(0)
    said, reference, noise = torch.randn(3, 2, 5, generator=generator)
    said.requires_grad_()
    measured = Errors(
        (said - noise).square().mean(1),
        (reference - noise).square().mean(1),
        ((said - noise) * (reference - noise)).mean(1),
    )
    found = DSPO.losses(measured, 1.0).sum()
    h = DPO.logits(measured, 1.0)
    c = (1 - torch.sigmoid(h)).detach()
    direct = ((said[0] - noise[0]) - c * (said[0] - reference[0])).square().mean()
    assert found.item() == pytest.approx(direct.item(), rel=1e-5)
    slopes = [torch.autograd.grad(each, said, retain_graph=True)[0][0] for each in (found, direct)]
    assert_close(*slopes)


def test_salesforces_beta_is_the_unit_of_every_loss_on_denoising_errors():
    others = {name for name in NAMES if registry.load("objectives", name).beta_unit != SALESFORCE}
    assert others == {"sft", "mapo", "dspo", "ppod", "ppod-clamped"}

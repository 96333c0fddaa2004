"""β in other trainers' conventions, and the proposal."""

from dataclasses import replace

import pytest
import torch

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train.composition import TrainInputs, equivalents, salesforce_beta, scale_line, suggest_beta
from rpo_cli.train.look_ahead.probe import propose_beta
from rpo_cli.train.objectives.objective import Errors
from rpo_cli.train.objectives.presets import DPO, PPOD, RAINBOW, SFT

SHAPE = (4, 64, 64)
ELEMENTS = 4 * 64 * 64


def logit(beta: float, m: list[float], r: list[float]) -> float:
    return DPO.logits(Errors(torch.tensor(m), torch.tensor(r)), beta).item()


@pytest.mark.parametrize(
    ("convention", "given", "ours"),
    [(None, 5000.0, 5000.0), ("salesforce", 5000.0, 5000.0), ("diffusers-sd", 2500.0, 5000.0)],
)
def test_conventions_of_means(convention, given, ours):
    assert salesforce_beta(given, convention, ELEMENTS) == ours


def test_the_same_pair_has_the_same_logit_in_every_convention():
    """diffusers writes beta * margin for SD; SimpleTuner beta/2 * margin of errors summed over C, H, W."""
    m, r = [0.10, 0.13], [0.11, 0.12]
    margin = (r[0] - m[0]) + (m[1] - r[1])
    assert logit(salesforce_beta(2500.0, "diffusers-sd", ELEMENTS), m, r) == pytest.approx(2500.0 * margin)
    summed = 0.5 * 0.3 * margin * ELEMENTS
    assert logit(salesforce_beta(0.3, "summed", ELEMENTS), m, r) == pytest.approx(summed, rel=1e-5)


def test_the_start_line_says_what_others_would_write():
    assert equivalents(5000.0, ELEMENTS) == (
        "= 2500 without the ½ (diffusers-sd) = 0.3052 on summed errors (summed)"
    )
    assert "= 2500 without" in scale_line(DPO, 5000.0, SHAPE)
    assert scale_line(PPOD, 4e5, SHAPE) == f"beta 400000: {PPOD.beta_unit}"
    assert scale_line(SFT, 0.0, SHAPE) == "no beta"


def test_the_proposal_gives_a_logit_of_one_where_sides_moved_apart_by_half_a_percent():
    reference = Errors(torch.tensor([0.2, 0.2, 0.2, 0.2]), None)
    found = suggest_beta(DPO, reference, ELEMENTS)
    assert found.beta == 2000.0
    assert found.reference_error == pytest.approx(0.2)
    moved = 0.005 * 0.2
    assert logit(found.beta, [0.2, 0.2 + moved], [0.2, 0.2]) == pytest.approx(1.0, rel=1e-3)


def test_with_a_mixed_reference_the_proposal_makes_the_first_spread_one():
    winners, losers = torch.full((4,), 0.2), 0.2 + torch.tensor([0.01, -0.01, 0.01, -0.01])
    values = torch.cat([winners, losers])
    mixed = replace(RAINBOW, margin=0.0)
    found = suggest_beta(mixed, Errors(values, None), ELEMENTS)
    z = mixed.logits(Errors(values, values), found.beta)
    assert z.std(correction=0).item() == pytest.approx(1.0, rel=0.05)
    assert found.pairs == 4


def test_a_proposal_reads_the_model_and_writes_nothing(model, dataset, shared_cache, tmp_path):
    def call(**given):
        inputs = TrainInputs(
            TrainSettings(**given),
            dataset=dataset,
            model=str(model),
            revision=None,
            model_identity=str(model),
            out=tmp_path / "out",
            cache=shared_cache,
            seed=0,
            device="cpu",
            threads=1,
        )
        return propose_beta(inputs)

    found = call()
    assert (found.method, found.pairs) == ("dpo", 64)
    assert found.beta == pytest.approx(2 / (0.005 * found.reference_error), rel=0.05)
    assert (found.diffusers_sd, found.summed) == (found.beta / 2, found.beta / (4 * 8 * 8))
    assert call() == found
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="the beta of ppod is another thing"):
        call(method="ppod")

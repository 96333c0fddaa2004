"""Numbers about training: joined, summarised, kept and rewound."""

from pathlib import Path

import pytest
import torch

from rpo_cli.errors import StorageError
from rpo_cli.train.journal import MetricsFile, spread_warning, summarise
from rpo_cli.train.knowledge import step_divergence
from rpo_cli.train.noise import NoiseSchedule
from rpo_cli.train.objectives.objective import Errors, Known, join
from rpo_cli.train.objectives.presets import DPO


def test_joined_micro_batches_read_like_one_batch():
    policy, reference = torch.rand(2, 12)
    whole = Errors(policy, reference)
    parts = [
        Errors(
            torch.cat([policy[a:b], policy[6 + a : 6 + b]]),
            torch.cat([reference[a:b], reference[6 + a : 6 + b]]),
        )
        for a, b in ((0, 4), (4, 6))
    ]
    joined = join(parts)
    assert torch.equal(joined.policy, whole.policy)
    assert torch.equal(joined.reference, whole.reference)


def test_the_summary_has_the_hand_computed_values():
    # margins s_l - s_w: 0.2 and -0.4; logits β/2 times that
    errors = Errors(torch.tensor([0.1, 0.6, 0.3, 0.2]), torch.tensor([0.2, 0.4, 0.2, 0.4]))
    found = summarise(errors, DPO, 10.0)
    assert found["winner_error"] == pytest.approx(0.35)
    assert found["reference_loser_error"] == pytest.approx(0.3)
    assert found["logit_mean"] == pytest.approx(-0.5)
    assert found["logit_std"] == pytest.approx(1.5)
    assert found["implicit_accuracy"] == 0.5


def test_sides_and_noise_levels_are_told_apart():
    """Both sides got worse, the loser more: right at low noise, wrong at high noise."""
    policy, reference = torch.tensor([0.3, 0.5, 0.6, 0.5]), torch.tensor([0.2, 0.4, 0.2, 0.5])
    known = Known(noise=torch.tensor([0.1, 0.9]))
    found = summarise(Errors(policy, reference, known=known), DPO, 10.0)
    assert found["winner_advantage"] == pytest.approx(-0.1)
    assert found["loser_advantage"] == pytest.approx(-0.2)
    assert found["implicit_accuracy_low_noise"] == 1.0
    assert found["implicit_accuracy_high_noise"] == 0.0
    assert "implicit_accuracy_middle_noise" not in found


@pytest.mark.parametrize(
    ("step", "spread", "expected"),
    [
        (1, 50.0, "lower beta"),
        (10, 50.0, "lower beta"),
        (11, 50.0, None),
        (9, 0.0, None),
        (10, 1e-6, "raise beta"),
        (10, 0.5, None),
    ],
)
def test_the_spread_is_judged_within_ten_steps(step, spread, expected):
    advice = spread_warning(step, spread)
    assert (advice is None) if expected is None else expected in advice


def test_rewinding_forgets_later_lines_and_a_cut_off_one(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.append("validation", 0, {"loss": 0.7})
    for step in (1, 2, 3):
        file.append("train", step, {"loss": step / 10})
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"split":"train","st')
    file.rewind(2)
    assert [(row["split"], row["step"]) for row in file.rows()] == [
        ("validation", 0),
        ("train", 1),
        ("train", 2),
    ]
    file.rewind(None)
    assert file.rows() == []


def test_first_and_last_leave_out_the_clock(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    assert file.first_and_last("train") == ({}, {})
    for step in (1, 2):
        file.append("train", step, {"loss": step / 10, "pairs_per_second": 3.0})
    assert file.first_and_last("train") == ({"step": 1, "loss": 0.1}, {"step": 2, "loss": 0.2})


def test_a_full_disk_is_told_in_two_lines():
    with pytest.raises(StorageError, match="No space left on device") as caught:
        MetricsFile(Path("/dev/full")).append("train", 1, {"loss": 1.0})
    assert "nothing is lost" in caught.value.hint


def test_the_kl_of_a_step_is_that_of_its_two_gaussians():
    """Means and variance of DDPM's posterior (Ho et al. 2020, eq. 7), KL of equal variances by hand."""
    betas = torch.linspace(1e-3, 0.02, 50, dtype=torch.float64)
    kept = torch.cumprod(1 - betas, dim=0)
    schedule = NoiseSchedule.from_alphas_cumprod(kept, "epsilon")
    generator = torch.Generator().manual_seed(0)
    noisy, said, other = torch.randn(3, 4, 8, 8, generator=generator, dtype=torch.float64)
    t = 20

    def mean(epsilon):
        start = (noisy - (1 - kept[t]).sqrt() * epsilon) / kept[t].sqrt()
        first = kept[t - 1].sqrt() * betas[t] / (1 - kept[t])
        second = (1 - betas[t]).sqrt() * (1 - kept[t - 1]) / (1 - kept[t])
        return first * start + second * noisy

    variance = betas[t] * (1 - kept[t - 1]) / (1 - kept[t])
    expected = ((mean(said) - mean(other)).square() / (2 * variance)).mean()
    slope = step_divergence(schedule, torch.tensor([t]))
    assert float(slope * (said - other).square().mean()) == pytest.approx(float(expected), rel=1e-3)
    assert step_divergence(schedule, torch.tensor([0, 49])).isnan().all()


def test_the_kl_of_a_batch_leaves_the_ends_out():
    known = Known(divergence=torch.tensor([0.5, float("nan"), 2.0]))
    errors = Errors(torch.ones(6), torch.ones(6), known=known, distance=torch.arange(6.0))
    assert summarise(errors, DPO, 1.0)["kl"] == pytest.approx((0 * 0.5 + 2 * 2 + 3 * 0.5 + 5 * 2) / 4)
    assert "kl" not in summarise(Errors(torch.ones(6), torch.ones(6)), DPO, 1.0)

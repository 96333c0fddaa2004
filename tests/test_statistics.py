import math

import numpy as np
import pytest

from rpo_cli.statistics import (
    bootstrap_kappa,
    bootstrap_ratio,
    cohen_kappa,
    crossed_bootstrap,
    crossed_difference,
    crossed_means,
    wilson,
)


def test_the_interval_of_kappa_is_that_of_drawn_prompts():
    """Two prompts of two items, one in full agreement, one in none: drawn twice, once or never,
    the first gives kappa 1, 0 or -1. One prompt alone leaves nothing to draw."""
    first, second = ["x", "y", "x", "y"], ["x", "y", "y", "x"]

    assert bootstrap_kappa(first, second, ["p", "p", "q", "q"]) == (0.0, -1.0, 1.0)
    assert bootstrap_kappa(first, second, ["p"] * 4) == (0.0, 0.0, 0.0)
    assert bootstrap_kappa(first, first, ["p", "p", "q", "q"]) == (1.0, 1.0, 1.0)
    assert math.isnan(bootstrap_kappa(["x"], ["x"], ["p"]).low)


def test_the_same_seed_gives_the_same_interval():
    values = [np.random.default_rng(7).normal(size=30)]
    assert crossed_bootstrap(values, seed=3) == crossed_bootstrap(values, seed=3)
    assert crossed_bootstrap(values, seed=3) != crossed_bootstrap(values, seed=4)


def test_one_training_seed_is_a_bootstrap_over_prompts():
    """Prompts 0 and 1: resampled means 0, 1/2, 1 with shares 1/4, 1/2, 1/4."""
    assert crossed_bootstrap([[0.0, 1.0]]) == (0.5, 0.0, 1.0)
    assert crossed_bootstrap([[0.0, 1.0]], level=0.4) == (0.5, 0.5, 0.5)


def test_seeds_are_drawn_although_the_prompts_agree():
    """Two seeds of 0 and 1 on every prompt: prompts add nothing, seeds give 0, 1/2, 1 as above."""
    assert crossed_bootstrap([[0.0] * 9, [1.0] * 9]) == (0.5, 0.0, 1.0)
    assert crossed_bootstrap([[0.0] * 9, [1.0] * 9], level=0.4) == (0.5, 0.5, 0.5)


def test_crossing_draws_the_same_prompts_for_every_seed():
    """A prompt effect that all seeds share is not averaged out over seeds.

    The variance of a resampled mean is that of the prompts over their number, whatever the number of
    seeds; were the prompts drawn anew for each of 4 seeds, it would be a fourth of that.
    """
    prompts = np.random.default_rng(3).normal(size=60)
    interval = crossed_bootstrap(np.tile(prompts, (4, 1)), draws=20_000)
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * prompts.std() / 60**0.5, rel=0.05)


def test_the_crossed_interval_holds_both_variances():
    """Seed effects and prompt effects add: variance S/6 + P/40 of their population variances."""
    rng = np.random.default_rng(4)
    seeds, prompts = rng.normal(size=6), rng.normal(scale=2, size=40)
    interval = crossed_bootstrap(seeds[:, None] + prompts[None], draws=20_000)
    sd = math.sqrt(seeds.var() / 6 + prompts.var() / 40)
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * sd, rel=0.05)


def test_a_ratio_weighs_clusters_by_their_rows():
    """Clusters of 1 of 1 and 0 of 3: 1/4; drawn alike 1 or 0 with 1/4 each, else 1/4."""
    assert bootstrap_ratio([1.0, 0.0], [1.0, 3.0]) == (0.25, 0.0, 1.0)
    assert bootstrap_ratio([1.0, 0.0], [1.0, 3.0], level=0.4) == (0.25, 0.25, 0.25)


def test_a_ratio_of_equal_clusters_is_a_bootstrap_of_their_means():
    shares = np.random.default_rng(6).uniform(size=30)
    ratio, mean = bootstrap_ratio(5 * shares, np.full(30, 5.0)), crossed_bootstrap([shares])
    assert ratio == pytest.approx(mean, rel=0.02)


def test_an_empty_cluster_takes_no_part():
    assert bootstrap_ratio([2.0, 0.0], [2.0, 0.0]) == (1.0, 1.0, 1.0)


def test_wilson_agrees_with_the_textbook():
    """z = 1.959964: 0 of 10 ends at z²/(10 + z²) = 3.841459/13.841459 = 0.277533."""
    assert wilson(0, 10) == pytest.approx((0.0, 0.0, 0.277533), abs=1e-6)
    assert wilson(10, 10) == pytest.approx((1.0, 0.722467, 1.0), abs=1e-6)
    # 5 of 10: centre 1/2, half = z/(1 + z²/10) * sqrt(0.025 + z²/400) = 0.263408
    assert wilson(5, 10) == pytest.approx((0.5, 0.236592, 0.763408), abs=1e-5)


def test_kappa_of_a_hand_counted_table():
    """20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: observed 0.7, chance 0.5, kappa 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)


def test_kappa_at_its_corners():
    assert cohen_kappa(["a", "b"], ["a", "b"]) == 1
    assert cohen_kappa(["a", "b"], ["b", "a"]) == -1
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]))


@pytest.mark.parametrize(
    "call",
    [
        lambda: crossed_bootstrap([1.0, 2.0]),
        lambda: crossed_bootstrap([[1.0, math.nan]]),
        lambda: crossed_bootstrap([[]]),
        lambda: bootstrap_ratio([], []),
        lambda: bootstrap_ratio([0.0], [0.0]),
        lambda: bootstrap_ratio([1.0], [1.0, 2.0]),
        lambda: bootstrap_ratio([math.nan], [1.0]),
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: cohen_kappa([], []),
        lambda: cohen_kappa(["a"], ["a", "b"]),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(ValueError, match=r".+"):
        call()


def test_settings_that_fail_on_the_same_prompts_are_told_apart_by_their_difference():
    """The prompts' own spread cancels; a difference in one seed of two does not."""
    hard = np.array([0.0, 1.0] * 40)
    half_better = np.stack([hard, np.ones(80)])

    assert crossed_difference([hard] * 3, [hard] * 2) == pytest.approx((0.0, 0.0, 0.0))
    value, low, high = crossed_difference(half_better, [hard])
    assert (value, low) == pytest.approx((0.25, 0.0))
    assert 0.4 < high < 0.65


def test_a_difference_over_seeds_alone_is_that_of_the_drawn_seeds():
    """Seeds of 0 and 1 beside one of 0, on prompts that agree: drawn means 0, 1/2, 1 of 1/4, 1/2, 1/4."""
    ours, theirs = [[0.0] * 9, [1.0] * 9], [[0.0] * 9]

    assert crossed_difference(ours, theirs) == (0.5, 0.0, 1.0)
    assert crossed_difference(ours, theirs, level=0.4) == (0.5, 0.5, 0.5)
    assert crossed_difference(theirs, ours) == (-0.5, -1.0, 0.0)


def test_the_training_seeds_of_two_settings_are_drawn_apart():
    """Drawn together, equal tables would never differ; two seeds of 0 and 1 each differ by up to 1."""
    table = [[0.0] * 9, [1.0] * 9]

    assert crossed_difference(table, table)[1:] == (-1.0, 1.0)


def test_draws_in_pieces_are_those_of_one_piece(monkeypatch):
    tables = [np.random.default_rng(n).random((2, 30)) for n in range(2)]
    whole = crossed_means(tables, draws=50)

    monkeypatch.setattr("rpo_cli.statistics.CELLS", 200)

    assert np.array_equal(crossed_means(tables, draws=50), whole)


@pytest.mark.parametrize("other", [[[]], [[1.0]], [[1.0, math.nan]], [1.0, 2.0]])
def test_tables_that_cannot_be_compared_are_refused(other):
    with pytest.raises(ValueError, match="table"):
        crossed_difference([[1.0, 2.0]], other)

"""Rewards to advantages, pairs and values, by hand."""

import numpy as np
import pytest

from rpo_cli.train.online.credit import (
    Memory,
    best_and_worst,
    combined,
    expectation,
    seed_noise,
    standardised,
    value_gains,
)

REWARDS = np.array([[1.0, 3.0], [10.0, 14.0]])
KEYS = ["a", "b"]


def test_a_prompts_own_statistics_compare_pictures_of_one_prompt():
    mean, spread = expectation("prompt", KEYS, REWARDS, Memory(8))
    assert mean.tolist() == [[2.0], [12.0]]
    assert spread.tolist() == [[1.0], [2.0]]
    found = standardised(REWARDS, mean, spread, 5.0)
    assert found == pytest.approx(np.array([[-1, 1], [-1, 1]]), rel=1e-5)


def test_the_batchs_statistics_compare_all_pictures():
    mean, spread = expectation("batch", KEYS, REWARDS, Memory(2))
    assert mean.tolist() == [[7.0], [7.0]]
    assert spread[0, 0] == pytest.approx(REWARDS.std())


def test_a_running_baseline_is_the_batchs_until_a_prompt_is_known_and_then_its_last_rewards():
    memory = Memory(4)
    mean, _ = expectation("running", KEYS, REWARDS, memory)
    assert mean.tolist() == [[7.0], [7.0]]
    mean, spread = expectation("running", ["a"], np.array([[5.0, 7.0]]), memory)
    assert mean.tolist() == [[4.0]]  # 1, 3, 5, 7
    assert spread[0, 0] == pytest.approx(np.std([1, 3, 5, 7]))
    expectation("running", ["a"], np.array([[9.0, 11.0]]), memory)
    assert memory.rewards["a"] == [5.0, 7.0, 9.0, 11.0]
    assert memory.rewards["b"] == [10.0, 14.0]


def test_equal_rewards_have_no_advantage_and_make_no_pair():
    same = np.full((2, 3), 0.7)
    mean, spread = expectation("prompt", KEYS, same, Memory(8))
    assert abs(standardised(same, mean, spread, 5.0)).max() < 1e-9
    assert best_and_worst(same, 0.0) == []


def test_advantages_are_held_within_the_limit():
    found = standardised(np.array([[0.0, 100.0]]), np.zeros((1, 1)), np.ones((1, 1)), 5.0)
    assert found.tolist() == [[0.0, 5.0]]


def test_noise_over_start_seeds_is_pooled_over_the_prompts():
    """Unbiased variances 2 and 8 of two pictures each."""
    assert seed_noise(REWARDS) == pytest.approx(5**0.5)


def test_best_and_worst_of_a_prompt_make_a_pair_unless_they_differ_by_noise_only():
    rewards = np.array([[0.0, 4.0, 2.0], [1.0, 1.1, 1.0], [9.0, 3.0, 6.0]])
    noise = seed_noise(rewards)
    assert best_and_worst(rewards, 0.0) == [(1, 0), (4, 3), (6, 7)]
    assert best_and_worst(rewards, 0.5) == [(1, 0), (6, 7)]
    assert best_and_worst(rewards, 5 / noise) == [(6, 7)]


def test_values_go_from_the_prompts_mean_to_the_reward():
    """Three steps of one picture: V = b at t = T, V = R at the end, and the gains add up to R − b."""
    promised = np.array([[9.0], [2.0], [3.0]])
    times = np.array([1.0, 0.5, 0.25])
    half = np.cos(np.pi / 4)
    quarter, other = np.cos(np.pi / 8), np.sin(np.pi / 8)
    values = np.array([1.0, half * 2 + half * 1.0, quarter * 3 + other * 1.0, 4.0])
    gains = np.diff(values)
    assert gains.sum() == pytest.approx(4.0 - 1.0)
    found = value_gains(promised, np.array([4.0]), np.array([1.0]), times, np.zeros((3, 1)), 5.0)
    assert found[:, 0] == pytest.approx((gains - gains.mean()) / gains.std(), rel=1e-4)


def test_a_running_cost_lowers_the_advantage_of_its_step_alone():
    promised, final = np.zeros((2, 2)), np.zeros(2)
    cost = np.array([[0.0, 0.0], [0.0, 1.0]])
    found = value_gains(promised, final, np.zeros(2), np.array([1.0, 0.5]), cost, 5.0)
    assert found.argmin() == 3
    assert found.flatten()[:3].tolist() == pytest.approx([1 / 3**0.5] * 3, rel=1e-4)


def test_several_rewards_count_alike():
    scores = {"a": np.array([[0.0, 1.0]]), "b": np.array([[0.0, 100.0]])}
    assert combined(scores, {"a": 1.0, "b": 100.0}).tolist() == [[0.0, 1.0]]

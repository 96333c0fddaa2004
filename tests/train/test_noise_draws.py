"""Draws are functions of (seed, step, position) and of nothing else."""

from dataclasses import replace

import torch

from rpo_cli.train.noise import DrawSettings, epoch_order, training_draw, validation_draw

SETTINGS = DrawSettings(seed=3, pairs=7, timesteps=1000, shape=(4, 3, 3), flip=True, caption_dropout=0.25)


def same(a, b) -> bool:
    return (a.pair, a.timestep, a.flip, a.drop_caption) == (
        b.pair,
        b.timestep,
        b.flip,
        b.drop_caption,
    ) and (torch.equal(a.noise, b.noise) and torch.equal(a.posterior, b.posterior))


def test_a_draw_is_the_same_whatever_was_drawn_before():
    first = training_draw(SETTINGS, 5, 2, 4)
    torch.rand(100)
    training_draw(SETTINGS, 0, 0, 4)
    epoch_order.cache_clear()
    assert same(first, training_draw(SETTINGS, 5, 2, 4))


def test_other_steps_positions_and_seeds_give_other_draws():
    base = training_draw(SETTINGS, 1, 1, 4)
    others = [
        training_draw(SETTINGS, 1, 2, 4),
        training_draw(SETTINGS, 2, 1, 4),
        training_draw(DrawSettings(4, 7, 1000, (4, 3, 3), True, 0.25), 1, 1, 4),
    ]
    assert not any(torch.equal(base.noise, other.noise) for other in others)
    assert not torch.equal(base.noise, base.posterior)


def test_every_pair_is_used_once_per_epoch_in_an_order_of_its_own():
    used = [training_draw(SETTINGS, i // 4, i % 4, 4).pair for i in range(28)]
    epochs = [used[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_global_batch_larger_than_the_data_goes_on_into_the_next_epoch():
    used = [training_draw(SETTINGS, 0, position, 14).pair for position in range(14)]
    assert sorted(used) == sorted([*range(7), *range(7)])


def test_timesteps_flips_and_dropped_captions_have_their_rates():
    draws = [training_draw(SETTINGS, step, position, 8) for step in range(50) for position in range(8)]
    assert 0.42 < sum(draw.flip for draw in draws) / 400 < 0.58
    assert 0.17 < sum(draw.drop_caption for draw in draws) / 400 < 0.33
    times = torch.tensor([float(draw.timestep) for draw in draws])
    assert 450 < times.mean() < 550
    assert times.min() >= 0
    assert times.max() <= 999


def test_whether_a_caption_is_dropped_tells_nothing_of_the_mirror():
    draws = [training_draw(SETTINGS, step, position, 8) for step in range(50) for position in range(8)]
    mirrored = sum(draw.flip for draw in draws if draw.drop_caption)
    captionless = sum(draw.drop_caption for draw in draws)
    assert 0.35 < mirrored / captionless < 0.65


def test_every_timestep_is_drawn_the_noisiest_and_the_cleanest_too():
    few = replace(SETTINGS, timesteps=3, shape=(1, 1, 1))
    assert {training_draw(few, step, 0, 1).timestep for step in range(60)} == {0, 1, 2}


def test_a_band_is_kept_and_both_its_ends_are_drawn():
    band = replace(SETTINGS, first=100, last=104)
    times = {training_draw(band, step, place, 8).timestep for step in range(20) for place in range(8)}
    assert times == {100, 101, 102, 103, 104}


def test_a_temporal_discount_prefers_noisy_timesteps():
    """gamma 0.9 per 1/50 of the way: the noisiest fifth (10 of 50 steps) gets 1 - 0.9^10 = 65 %."""
    dense = replace(SETTINGS, discount=0.9, shape=(1, 1, 1))
    times = [training_draw(dense, step, place, 8).timestep for step in range(250) for place in range(8)]
    share = sum(time >= 800 for time in times) / len(times)
    assert abs(share - (1 - 0.9**10) / (1 - 0.9**50)) < 0.035
    assert all(0 <= time <= 999 for time in times)


def test_a_discount_of_nearly_one_is_uniform():
    flat = replace(SETTINGS, discount=1 - 1e-9, shape=(1, 1, 1))
    times = [float(training_draw(flat, step, 0, 1).timestep) for step in range(1000)]
    assert abs(sum(times) / 1000 - 499.5) < 40


def test_a_group_shares_what_it_says_whatever_the_split_of_the_step():
    for shared, times, noises in (("none", 4, 4), ("timestep", 1, 4), ("noise", 1, 1)):
        grouped = replace(SETTINGS, group=4, shared=shared)
        draws = [training_draw(grouped, 2, place, 8) for place in range(4)]
        assert len({draw.timestep for draw in draws}) == times
        assert len({tuple(draw.noise.flatten().tolist()) for draw in draws}) == noises
        assert len({tuple(draw.posterior.flatten().tolist()) for draw in draws}) == 4
        assert same(draws[3], training_draw(grouped, 2, 3, 8))
        assert training_draw(grouped, 2, 4, 8).timestep != draws[0].timestep


def test_noise_is_standard_normal():
    values = torch.stack([training_draw(SETTINGS, step, 0, 1).noise for step in range(300)])
    assert abs(values.mean().item()) < 0.05
    assert abs(values.std().item() - 1) < 0.05


def test_validation_draws_are_fixed_and_keep_pictures_and_captions_as_they_are():
    draws = [validation_draw(SETTINGS, item) for item in range(70)]
    assert all(same(draw, validation_draw(SETTINGS, item)) for item, draw in enumerate(draws))
    assert not any(draw.flip or draw.drop_caption for draw in draws)
    assert [draw.pair for draw in draws[:8]] == [0, 1, 2, 3, 4, 5, 6, 0]
    assert not torch.equal(draws[0].noise, draws[7].noise)


def test_validation_draws_do_not_repeat_training_draws():
    assert not torch.equal(validation_draw(SETTINGS, 0).noise, training_draw(SETTINGS, 0, 0, 1).noise)

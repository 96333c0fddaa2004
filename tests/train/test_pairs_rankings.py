"""Pairs of one prompt → ranked lists."""

import hashlib

import pytest

from rpo_cli.errors import UsageError
from rpo_cli.train.data.pairs import Ranking, rank, read_rankings


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def write(tiny, tmp_path):
    """`write([(first, second, scores_0, scores_1), ...])`: pairs of pictures by seed, one caption."""

    def call(rows, caption="c", **changed):
        found = [
            {
                "jpg_0": tiny.picture(first),
                "jpg_1": tiny.picture(second),
                "label_0": 1.0,
                "caption": caption,
                "rewards_0": scores_0,
                "rewards_1": scores_1,
            }
            | changed
            for first, second, scores_0, scores_1 in rows
        ]
        tiny.write_split(tmp_path, "train", found)
        return tmp_path

    return call


def test_pictures_are_ranked_by_the_share_of_others_they_beat():
    """a beats both others on both rewards; b beats c on one of two."""
    found = rank({"a": {"x": 3, "y": 3}, "b": {"x": 2, "y": 1}, "c": {"x": 1, "y": 1.5}})
    assert [(name, round(gain, 6)) for name, gain in found] == [("a", 1.0), ("b", 0.25), ("c", 0.25)]


def test_a_gain_is_one_half_for_a_tie():
    found = dict(rank({"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 0}}))
    assert sorted(found.values()) == pytest.approx([0.0, 0.75])  # a and b tie: one of them stays


def test_a_reward_that_not_all_pictures_have_does_not_count():
    found = rank({"a": {"x": 1, "y": 0}, "b": {"x": 0}})
    assert [name for name, _ in found] == ["a", "b"]


def test_pairs_of_one_prompt_become_one_list(write, tiny):
    folder = write([(1, 2, {"x": 3.0}, {"x": 1.0}), (1, 3, {"x": 3.0}, {"x": 2.0})])
    assert read_rankings(folder, "train", 3) == [
        Ranking(tuple(sha(tiny.picture(seed)) for seed in (1, 3, 2)), "c", (1.0, 0.5, 0.0))
    ]


def test_a_long_list_is_cut_so_that_every_part_spans_the_whole_range(write, tiny):
    scores = {seed: {"x": float(-seed)} for seed in range(1, 6)}
    folder = write([(a, b, scores[a], scores[b]) for a, b in ((1, 2), (3, 4), (5, 1))])
    found = read_rankings(folder, "train", 2)
    assert [ranking.pictures for ranking in found] == [
        (sha(tiny.picture(a)), sha(tiny.picture(b))) for a, b in ((1, 3), (2, 4))
    ]


def test_too_few_pictures_name_the_most_there_are(write):
    folder = write([(1, 2, {"x": 3.0}, {"x": 1.0})])
    with pytest.raises(UsageError, match=r"no prompt has 3 pictures .*, the most is 2") as caught:
        read_rankings(folder, "train", 3)
    assert "train.list_size=2" in caught.value.hint


def test_a_picture_without_rewards_is_refused_by_row(write):
    folder = write([(1, 2, {"x": 3.0}, {"x": None})])
    with pytest.raises(UsageError, match="row 0: rewards_1 is empty"):
        read_rankings(folder, "train", 2)

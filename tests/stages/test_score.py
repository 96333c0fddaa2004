"""What a row of `rewards` says, and what never becomes one."""

import math

import pytest

from rpo_cli.protocols import Task
from rpo_cli.records import Reject, RewardScore
from rpo_cli.stages.score import Finish, ScoreTask, Shown, step, wanted

FINISH = Finish("mine", '{"scorer": "mine-1"}', "{}")


class Lengths:
    """A reward: how long the prompt is, three letters of it read; a picture < 0 is no number."""

    def setup(self): ...

    def score(self, prompts, images):
        return [
            math.nan if image < 0 else float(len(text)) for text, image in zip(prompts, images, strict=True)
        ]

    def cut(self, prompts):
        return [len(text) > 3 for text in prompts]


class Blind:
    def setup(self): ...

    def score(self, prompts, images):
        return [1.0] * len(prompts)


def tasks(*wanted):
    return [
        Task(f"key{n}", f"image{n}", ScoreTask("image", f"image{n}", f"sha{n}", "p", text, picture))
        for n, (text, picture) in enumerate(wanted)
    ]


def test_a_row_says_whether_its_prompt_was_cut():
    wanted = tasks(("one", 1), ("three", 1))
    rows = FINISH(wanted, step(wanted, Lengths(), 4), 4)

    assert [(row.score, row.truncated, row.settings) for row in rows] == [
        (3.0, False, FINISH.settings),
        (5.0, True, FINISH.settings),
    ]


def test_a_reward_that_tells_no_limit_leaves_it_open():
    wanted = tasks(("three", 1))
    (row,) = FINISH(wanted, step(wanted, Blind(), 1), 1)

    assert isinstance(row, RewardScore)
    assert row.truncated is None


def test_a_score_that_is_no_finite_number_is_a_reject_and_its_neighbours_are_rows():
    wanted = tasks(("one", 1), ("two", -1))
    good, bad = FINISH(wanted, step(wanted, Lengths(), 2), 2)

    assert isinstance(good, RewardScore)
    assert isinstance(bad, Reject)
    assert (bad.reason, bad.key_of) == ("score_not_finite", "key1")


def test_a_reward_that_gives_too_few_scores_is_an_error_and_no_row():
    class Few(Lengths):
        def score(self, prompts, images):
            return [1.0]

    with pytest.raises(ValueError, match="longer"):
        step(tasks(("one", 1), ("two", 1)), Few(), 2)


def test_a_last_batch_is_filled_up_to_its_size_and_gives_its_own_scores_only():
    asked = []

    class Spy(Lengths):
        def score(self, prompts, images):
            asked.append((list(prompts), list(images)))
            return super().score(prompts, images)

    found = step(tasks(("one", 1), ("three", 2)), Spy(), 4)

    assert asked == [(["one", *["three"] * 3], [1, 2, 2, 2])]
    assert [given.score for given in found] == [3.0, 5.0]


def test_a_scores_key_hangs_on_picture_prompt_reward_and_settings():
    def key(sha="sha", prompt="a red ball", reward="mine", settings="{}", place="i"):
        subject = Shown("image", place, sha, "p", prompt)
        (task,) = wanted(lambda: [subject, subject], reward=reward, settings=settings)
        return task.key

    others = [key(sha="other"), key(prompt="a dog"), key(reward="other"), key(settings='{"dtype":"x"}')]
    assert len({key(), *others}) == 5
    assert key(place="the same picture made again") == key()

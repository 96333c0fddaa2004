"""Scores that are no numbers, and scorers that fail: what is refused, what is said, what goes on."""

import math

import pytest
from PIL import Image

from rpo_cli import build_pairs, open_line, run, run_stage
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.work import base
from rpo_cli.line.work.score import Unscored, missing_notes, unscored
from tests.observed import Notes


class Scorer:
    """A reward: 0, 1, 2, ... in the order of the calls; `bad` of them, from the first on, are `value`."""

    def __init__(self, bad=0, value=math.nan, fails_after=None, error=None):
        self.bad, self.value, self.fails_after, self.error = bad, value, fails_after, error
        self.calls = 0

    def setup(self): ...

    def score(self, prompts, images):
        if self.fails_after is not None and self.calls >= self.fails_after:
            raise self.error or RpoError("the process has ended", "look at its log")
        found = []
        for _ in images:
            found.append(self.value if self.calls < self.bad else float(self.calls))
            self.calls += 1
        return found


class Painter:
    """A picture of its own for every seed."""

    def setup(self): ...

    def generate(self, prompts, seeds):
        return [
            Image.new("RGB", (8, 8), (seed % 255 + 1, seed >> 8 & 255, seed >> 16 & 255)) for seed in seeds
        ]


@pytest.fixture
def scored(stand, monkeypatch):
    """24 pictures, and a call that opens the run with rewards a and b answered by stand-ins."""
    scorers = {}

    def backend(kind, name, ref, **options):
        return scorers[name] if kind == "rewards" else Painter()

    monkeypatch.setattr(base, "build_backend", backend)

    def opened(observer=None, **found):
        scorers.update(found)
        rewards = tuple(f"{name}={stand.model}" for name in found)
        settings = {"score.rewards": rewards, "score.batch_size": 1, "pairs.strategy": "seeds"}
        return open_line(stand.run, settings, observer=observer)

    run_stage(stand.line(), "generate")
    return opened


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_a_reject_that_names_its_reward(scored, value):
    line = scored(clip=Scorer(1, value))
    report = run_stage(line, "score")

    (reject,) = line.store.columns("rejects", ["stage", "reason", "detail"]).to_pylist()
    assert (report.made, report.rejects) == (23, {"score_not_finite": 1})
    assert reject == {"stage": "score clip", "reason": "score_not_finite", "detail": f"clip gave {value}"}


def test_one_of_24_scores_is_said(scored):
    """5 % of 24 are 1.2."""
    said = Notes()
    one = scored(said, clip=Scorer(1))
    run_stage(one, "score")
    assert build_pairs(one).candidates > 0
    assert said.said.count(
        "score clip: 1 of 24 scores are no numbers (NaN or infinite): rejects, until --retry-rejects"
    )


def test_more_than_one_in_twenty_of_one_reward_ends_the_scoring_whatever_the_other_gave(scored):
    line = scored(clip=Scorer(2), imagereward=Scorer())
    run_stage(line, "score")

    with pytest.raises(RpoError) as caught:
        build_pairs(line)

    assert caught.value.exit_code == 1
    assert caught.value.message == (
        "score clip: 2 of 24 scores are no numbers (NaN or infinite), more than 5%"
    )
    assert "--retry-rejects" in caught.value.hint
    assert not line.store.files.exists("dataset/README.md")


def test_the_share_is_of_one_reward_and_not_of_all():
    assert Unscored("r", 100, 95, 5, 5).too_many is False  # 5 of 100: not more than 5 %
    assert Unscored("r", 100, 94, 6, 6).too_many is True
    assert Unscored("r", 100, 0, 0, 0).too_many is False  # nothing is scored yet: nothing is wrong yet
    assert Unscored("r", 100, 90, 10, 4).too_many is False  # other rejects are the pictures' fault
    assert Unscored("r", 1000, 10, 1, 1).too_many is True  # of what was tried, not of what is wanted


def test_what_was_refused_is_refused_again_until_it_is_asked_again(scored):
    run_stage(scored(clip=Scorer(3)), "score")
    again = scored(clip=Scorer())
    assert run_stage(again, "score").made == 0
    with pytest.raises(RpoError, match="3 of 24"):
        build_pairs(again)

    mended = scored(clip=Scorer())
    assert run_stage(mended, "score", retry_rejects=True).made == 3
    assert build_pairs(mended).dropped.get("unscored") is None


def test_both_rewards_are_named_at_once(scored):
    line = scored(clip=Scorer(24), imagereward=Scorer(4, math.inf))
    run_stage(line, "score")
    with pytest.raises(RpoError, match=r"score clip: 24 of 24 .*; score imagereward: 4 of 24 "):
        build_pairs(line)


def test_allow_missing_goes_on_and_the_card_says_what_is_missing(scored):
    said = Notes()
    line = scored(said, clip=Scorer(6), imagereward=Scorer())
    run_stage(line, "score")
    report = build_pairs(line, allow_missing=True)

    card = line.store.files.read("dataset/README.md").decode()
    assert "The reward clip has no score of 6 of 24 pictures (6 were no numbers)" in card
    assert any("6 of 24 scores are no numbers" in text for text in said.said)
    assert report.candidates > 0


def test_a_card_where_all_is_scored_says_nothing_of_it(scored):
    line = scored(clip=Scorer())
    run_stage(line, "score")
    build_pairs(line)
    assert missing_notes(line) == []
    assert "has no score of" not in _card(line)


def _card(line):
    return line.store.files.read("dataset/README.md").decode()


def test_a_scorer_that_fails_ends_the_scoring_with_what_it_has_scored(scored):
    line = scored(clip=Scorer(fails_after=8), imagereward=Scorer())

    with pytest.raises(RpoError) as caught:
        run_stage(line, "score")

    assert caught.value.exit_code == 1
    assert caught.value.message == "score clip failed with 8 of 24 rows scored: the process has ended"
    assert caught.value.hint.startswith("look at its log; ")
    assert "--allow-missing" in caught.value.hint


def test_with_allow_missing_the_next_reward_goes_on_and_a_later_call_asks_again(scored):
    said = Notes()
    line = scored(said, clip=Scorer(fails_after=0), imagereward=Scorer())
    report = run_stage(line, "score", allow_missing=True)

    assert (report.wanted, report.present + report.made) == (48, 24)
    assert said.said.count(
        "score clip failed with 0 of 24 rows scored, going on without the others: the process has ended"
    )
    build_pairs(line, allow_missing=True)
    assert "The reward clip has no score of 24 of 24 pictures. It has no say in any pair." in _card(line)
    with pytest.raises(RpoError, match="score clip failed"):
        run_stage(scored(clip=Scorer(fails_after=0), imagereward=Scorer()), "score")


def test_a_users_mistake_is_no_scorer_that_failed(scored):
    line = scored(clip=Scorer(fails_after=0, error=UsageError("no such model", "name one")))
    with pytest.raises(UsageError, match=r"^no such model$"):
        run_stage(line, "score", allow_missing=True)


def test_the_whole_line_ends_before_it_trains_on_what_is_left(scored, monkeypatch):
    monkeypatch.setattr("rpo_cli.line.run.fine_tune", lambda line: pytest.fail("trained"))
    monkeypatch.setattr("rpo_cli.line.run.preflight", lambda line, steps: None)
    with pytest.raises(RpoError, match="12 of 24 scores are no numbers"):
        run(scored(clip=Scorer(12)))


def test_rows_that_are_still_missing_are_no_rejects(scored):
    line = scored(clip=Scorer())
    run_stage(line, "score", limit=10)
    assert unscored(line) == [Unscored("clip", 24, 10, 0, 0)]

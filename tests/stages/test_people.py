"""What stands of a reviewer's entries, and what several reviewers say together: counted by hand."""

import itertools

import pytest

from rpo_cli.config import PairSettings
from rpo_cli.stages.candidates import Candidate, Difference, Picture
from rpo_cli.stages.margins import Margin
from rpo_cli.stages.verdicts import consensus, decide, opinion_on, standing


def entry(choice, reviewer="ann", number=0, *, repeat=False, a="x", b="y"):
    return {
        "verdict_id": f"{reviewer}{number}",
        "reviewer": reviewer,
        "number": number,
        "choice": choice,
        "prompt_id": "p",
        "a_sha256": a,
        "b_sha256": b,
        "repeat": repeat,
    }


def said(*rows):
    return opinion_on(consensus(rows), "p", "x", "y")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_last_entry_of_a_showing_stands_in_any_order_of_rows(order):
    rows = [entry("a", number=0), entry("undo", number=1), entry("b", number=2)]

    (row,) = standing(rows[place] for place in order)

    assert row["choice"] == "b"


def test_what_was_undone_or_skipped_counts_for_nothing():
    assert standing([entry("a", number=0), entry("undo", number=1)]) == []
    assert standing([entry("skip")]) == []
    assert said(entry("skip")) is None


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        ("a", "a"),
        ("ab", "tie"),
        ("aab", "a"),
        (("a", "tie", "tie"), "a"),
        (("reject", "a"), "a"),
        (("reject", "reject", "a"), "reject"),
        (("reject", "tie"), "tie"),
    ],
)
def test_most_reviewers_decide(choices, expected):
    rows = [entry(choice, reviewer=f"r{number}") for number, choice in enumerate(choices)]

    assert said(*rows) == expected


def test_who_says_otherwise_at_the_repeat_prefers_neither():
    assert said(entry("a"), entry("b", number=1, repeat=True)) == "tie"
    assert said(entry("a"), entry("a", number=1, repeat=True)) == "a"


def test_a_verdict_is_on_pictures_whatever_a_later_build_calls_its_sides():
    assert said(entry("a", a="y", b="x")) == "b"


def candidate(margin=1.0, label=None, kind="edit"):
    sides = [Picture("p", n, f"id-{sha}", sha) for n, sha in enumerate("xy")]
    pair = {"pair_id": "pair", "kind": kind, "prompt": "p", "a": sides[0], "b": sides[1]}
    scores = {
        "rewards_a": {"r": 0.0},
        "rewards_b": {"r": margin},
        "margin": Margin({"r": margin}, margin, 1.0),
    }
    rest = {"critique_id": None, "instruction": None, "tries": 1, "dispersion": None, "scored": True}
    return Candidate(**pair, **scores, **rest, label=label)


def judged(people, use, pair=None, **settings):
    chosen = PairSettings(use_verdicts=use, **settings)
    (row,) = decide(
        [pair or candidate()], [Difference(0.1, 10)], chosen, {"pair": people} if people else {}
    )
    return row.reason, row.winner, row.people


@pytest.mark.parametrize(
    ("use", "people", "expected"),
    [
        ("column", "a", ("edit_won", "b", "a")),
        ("column", "reject", ("edit_won", "b", "reject")),
        ("filter", "b", ("edit_won", "b", "b")),
        ("filter", "a", ("people_disagree", None, "a")),
        ("filter", "tie", ("people_tie", None, "tie")),
        ("filter", "reject", ("people_reject", None, "reject")),
        ("filter", None, ("edit_won", "b", None)),
        ("override", "a", ("reversed", "a", "a")),
        ("override", "b", ("edit_won", "b", "b")),
        ("override", "tie", ("people_tie", None, "tie")),
        ("override", "reject", ("people_reject", None, "reject")),
        ("override", None, ("edit_won", "b", None)),
    ],
)
def test_verdicts_are_told_filter_or_are_the_label(use, people, expected):
    """The rewards prefer b by a margin of 1."""
    assert judged(people, use) == expected


def test_people_decide_where_rewards_could_not():
    """A margin inside the band drops the pair, unless reviewers are the label."""
    close = candidate(margin=0.1)

    assert judged("a", "filter", close)[0] == "inside_band"
    assert judged("a", "override", close) == ("reversed", "a", "a")
    assert judged("a", "override", close, keep_reversed=False) == ("reversed", None, "a")


def test_people_of_this_run_come_before_the_label_a_pair_came_with():
    pair = candidate(label="a", kind="human")

    assert judged("b", "column", pair) == ("label_kept", "a", "b")
    assert judged("b", "override", pair) == ("reviewed", "b", "b")
    assert judged("b", "filter", pair) == ("people_disagree", None, "b")

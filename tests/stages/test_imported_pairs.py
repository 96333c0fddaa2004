"""Verdicts on pairs that came with a label: whose word counts, and when."""

import pytest

from rpo_cli.config import PairSettings
from rpo_cli.stages.candidates import Difference
from rpo_cli.stages.pairs import candidates
from rpo_cli.stages.verdicts import decide

SEEN = Difference(change=0.1, hash_distance=10)


def tables(votes, scores=(), kind="human"):
    """Pictures x and y of one prompt, their votes as (first, second, choice), their scores."""
    return {
        "images": [
            {"image_id": f"id-{sha}", "prompt_id": "p", "prompt": "a cat", "index": n, "sha256": sha}
            for n, sha in enumerate("xy")
        ],
        "critiques": [],
        "edits": [],
        "rewards": [
            {"prompt_id": "p", "subject_sha256": sha, "reward": "clip", "score": score}
            for sha, score in zip("xy", scores, strict=False)
        ],
        "preferences": [
            {"prompt_id": "p", "a_sha256": a, "b_sha256": b, "choice": choice, "judged_by": judge}
            for a, b, choice, judge in [(*vote, kind)[:4] for vote in votes]
        ],
    }


def verdicts(found, differences=None, **settings):
    chosen = PairSettings(**{"strategy": "imported", **settings})
    pairs = candidates(found, chosen).pairs
    return decide(pairs, differences or [SEEN] * len(pairs), chosen)


@pytest.mark.parametrize(
    ("votes", "label", "reason", "winner"),
    [
        ([("x", "y", "a")], "a", "label_kept", "a"),
        ([("y", "x", "a")], "b", "label_kept", "b"),
        ([("x", "y", "a"), ("y", "x", "b"), ("x", "y", "b")], "a", "label_kept", "a"),
        ([("x", "y", "a"), ("y", "x", "a")], "tie", "tie", None),
        ([("x", "y", "tie")], "tie", "tie", None),
        ([("x", "y", "tie"), ("x", "y", "b")], "b", "label_kept", "b"),
        ([("x", "y", None)], None, "unlabelled", None),
    ],
)
def test_the_majority_of_votes_is_the_label_in_whatever_order_they_name_the_pictures(
    votes, label, reason, winner
):
    (pair,) = verdicts(tables(votes))
    assert (pair.pair_kind, pair.label, pair.reason, pair.winner) == ("human", label, reason, winner)


def test_a_kept_label_needs_no_score_and_no_margin_overrules_it():
    (pair,) = verdicts(tables([("x", "y", "a")], scores=(0.0, 9.0)))
    assert (pair.winner, pair.reason) == ("a", "label_kept")
    assert pair.margin > 0  # the rewards prefer y, and the row says so


@pytest.mark.parametrize(
    ("scores", "reason", "winner"),
    [
        ((0.0, 1.0), "relabelled", "b"),
        ((1.0, 0.0), "label_confirmed", "a"),
        ((1.0, 1.0), "inside_band", None),
    ],
)
def test_rewards_may_relabel_what_was_imported(scores, reason, winner):
    (pair,) = verdicts(tables([("x", "y", "a")], scores), labels="rewards", min_margin=0.1)
    assert (pair.label, pair.reason, pair.winner) == ("a", reason, winner)


def test_a_tie_of_people_may_be_decided_by_rewards_and_is_told_as_theirs():
    (pair,) = verdicts(tables([("x", "y", "tie")], (0.0, 1.0)), labels="rewards", min_margin=0.1)
    assert (pair.label, pair.reason, pair.winner) == ("tie", "relabelled", "b")


def test_without_labels_there_are_no_imported_pairs():
    assert verdicts(tables([("x", "y", "a")]), labels="none") == []


def test_peoples_votes_count_alone_beside_those_of_unknown_origin():
    mixed = tables([("x", "y", "b", "source"), ("x", "y", "b", "source"), ("x", "y", "a", "human")])
    (pair,) = verdicts(mixed)
    assert (pair.pair_kind, pair.label) == ("human", "a")
    (pair,) = verdicts(tables([("x", "y", "b")], kind="source"))
    assert (pair.pair_kind, pair.label) == ("import", "b")


def test_a_pair_of_seeds_of_the_same_pictures_gives_way_to_the_label_that_came_with_them():
    found = verdicts(tables([("x", "y", "a")], scores=(0.0, 9.0)), strategy="seeds", min_margin=0.1)
    said = {pair.pair_kind: (pair.verdict, pair.reason) for pair in found}
    assert said == {"human": ("accepted", "label_kept"), "seeds": ("dropped", "duplicate")}


def test_equal_pictures_and_unreadable_ones_are_no_pair_whatever_their_label():
    (pair,) = verdicts(tables([("x", "y", "a")]), [Difference(0.0, 0)])
    assert pair.reason == "unchanged"
    pairs = candidates(tables([("x", "y", "a")]), PairSettings(strategy="imported")).pairs
    (pair,) = decide(pairs, [None], PairSettings(strategy="imported"))
    assert pair.reason == "corrupt_image"


def test_a_vote_on_a_picture_that_is_not_live_is_no_pair():
    gone = tables([("x", "y", "a")])
    gone["images"] = gone["images"][:1]
    assert verdicts(gone) == []

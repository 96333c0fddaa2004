"""What a filter of pairs lets through, and in which order it comes."""

import pytest

from rpo_cli.errors import UsageError
from rpo_cli.exchange.card import REASONS
from rpo_cli.line.dataset.pair_filter import PAIR_KINDS, PairFilter, find, short_ids
from rpo_cli.records import Prompt
from rpo_cli.store import open_store
from tests.found import PAIRS, make_run


@pytest.fixture
def run(tmp_path):
    return tmp_path / "run", make_run(tmp_path / "run")


def names(run, asked=None, **options):
    path, ids = run
    found = find(path, asked or PairFilter(), **options)
    by_id = {key: name for name, key in ids.items()}
    return [by_id[item.pair.pair_id] for item in found.pairs]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, PAIRS),
        ({"prompt": "sTaR"}, ["won", "back"]),
        ({"prompt": "STRASSE"}, ["seeds"]),
        ({"flaw": "SIX fingers"}, ["won"]),
        ({"flaw": "hand"}, ["seeds"]),
        ({"flaw": "detail: it is"}, ["back", "close", "unscored", "broken"]),
        ({"flaw": "make it blue"}, ["won", "back", "close", "unscored", "broken"]),
        ({"kind": "seeds"}, ["seeds"]),
        ({"kind": "human"}, []),
        ({"gate": "accepted"}, ["won", "back", "seeds"]),
        ({"gate": "dropped"}, ["close", "unscored", "broken"]),
        ({"gate": "inside_band"}, ["close"]),
        ({"gate": "reversed"}, ["back"]),
        ({"gate": "near_duplicate"}, []),
        ({"reward": "vqa"}, ["won", "broken"]),
        ({"margin_above": 1.0}, ["won", "seeds"]),
        ({"margin_below": 0.1}, ["back"]),
        ({"margin_above": -1.0, "margin_below": 1.0}, ["close", "broken"]),
        ({"reward": "vqa", "margin_above": 0.6}, ["won"]),
        ({"reward": "clip", "margin_above": 1.9, "gate": "accepted", "prompt": "star"}, ["won"]),
        ({"prompt": "star", "kind": "seeds"}, []),
    ],
    ids=str,
)
def test_a_pair_is_found_when_all_that_is_asked_holds(run, asked, expected):
    """Bounds are not part of a margin's range; a pair without the margin that is asked for is not found."""
    assert sorted(names(run, PairFilter(**asked))) == sorted(expected)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("margin", "seeds won broken close back unscored"),
        ("-margin", "back close broken won seeds unscored"),
        ("prompt", "broken close unscored won back seeds"),
    ],
)
def test_pairs_come_in_the_order_that_is_asked_for_and_those_without_a_margin_last(run, sort, expected):
    assert names(run, sort=sort) == expected.split()
    assert names(run, sort=sort, limit=2) == expected.split()[:2]


def test_the_margin_of_a_reward_orders_pairs_instead_of_the_mean(run):
    """By their means "won" comes before "broken", by vqa too, but clip's 2.0 is not its margin then."""
    found = find(run[0], PairFilter(reward="vqa"), sort="margin")

    assert [item.margin for item in found.pairs] == [1.0, 0.5]


def test_without_an_order_pairs_come_by_their_ids(run):
    path, ids = run

    assert [item.pair.pair_id for item in find(path, PairFilter()).pairs] == sorted(ids.values())


@pytest.mark.parametrize("kind", PAIR_KINDS)
def test_every_kind_of_pair_can_be_asked_for(run, kind):
    assert find(run[0], PairFilter(kind=kind)).total == len(PAIRS)


@pytest.mark.parametrize("gate", ["accepted", "dropped", *REASONS])
def test_every_gate_can_be_asked_for_though_it_dropped_nothing(run, gate):
    assert find(run[0], PairFilter(gate=gate)).total == len(PAIRS)


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ({"gate": "inside_bund"}, "did you mean 'inside_band'", "this run has accepted, dropped"),
        ({"reward": "clib"}, "did you mean 'clip'", "one of clip, vqa"),
    ],
)
def test_an_unknown_gate_or_reward_is_refused_with_those_there_are(run, asked, message, hint):
    with pytest.raises(UsageError, match=message) as caught:
        find(run[0], PairFilter(**asked))

    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "seed"}, "did you mean 'seeds'"),
        ({"margin_above": 1.0, "margin_below": 1.0}, "no margin is above 1 and below 1"),
        ({"margin_below": float("nan")}, "no number"),
    ],
)
def test_a_filter_that_can_never_match_is_refused_before_any_row_is_read(asked, message):
    with pytest.raises(UsageError, match=message):
        PairFilter(**asked)


def test_a_filter_says_in_words_all_that_it_asks():
    asked = PairFilter("star", "hand", "edit", "clip", 0.5, -0.5, "accepted")

    assert asked.words == (
        "prompt has 'star', flaw or instruction has 'hand', kind edit, "
        "margin of clip above -0.5 and below 0.5, gate accepted"
    )
    assert PairFilter(reward="clip").words == "scored by clip"
    assert (PairFilter().words, bool(PairFilter()), bool(asked)) == ("", False, True)


def test_a_short_id_is_as_long_as_it_must_be_to_mean_one_row_of_all_tables(run):
    """A prompt whose id begins like a pair's makes that pair's id longer, and no other's."""
    path, ids = run
    key = ids["won"]
    open_store(path).commit("prompts", [Prompt(prompt_id=f"{key[:11]}zzz", prompt="x", source="s")])

    found = short_ids(open_store(path), ids.values())

    assert found[key] == key[:12]
    assert all(found[other] == other[:8] for other in ids.values() if other != key)

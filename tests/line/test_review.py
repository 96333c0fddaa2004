"""A reviewer's desk over a real store: order, sides, repeats, resume, undo; and what the summary counts."""

from operator import eq

import pytest
from PIL import Image as Pillow

from rpo_cli.errors import RunLocked, UsageError
from rpo_cli.line.dataset.inputs import standing_keys
from rpo_cli.line.review.agreement import _kappa, _label, summarise
from rpo_cli.line.review.desk import open_desk
from rpo_cli.line.review.queue import GAP, Blind, alike, queue
from rpo_cli.pictures import decode
from rpo_cli.stages.verdicts import subject
from tests.reviewed import make_run, pair_of, picture, verdicts

ROWS = [pair_of(number)[2].model_dump() for number in range(60)]
BLIND = Blind(b"k" * 32, "ann")


def test_sides_are_a_fair_coin_that_every_reviewer_throws_anew():
    """Of 200 pairs about half stand either way (6 sd of a fair coin are 42), for each reviewer others."""
    rows = [pair_of(number)[2].model_dump() for number in range(200)]
    lefts = {
        name: [Blind(b"k" * 32, name).showing(row, repeat=False).left for row in rows]
        for name in ("ann", "bob")
    }

    assert all(58 < left.count("a") < 142 for left in lefts.values())
    assert lefts["ann"] != lefts["bob"]
    lower = ["a" if row["a_sha256"] < row["b_sha256"] else "b" for row in rows]
    assert all(58 < sum(map(eq, left, lower)) < 142 for left in lefts.values())


def test_a_repeat_is_swapped_and_stands_apart():
    found = queue(ROWS, BLIND, limit=None, repeat=0.2)
    places = {(showing.about, showing.repeat): place for place, showing in enumerate(found)}
    again = [showing for showing in found if showing.repeat]

    assert (len(found), len(again)) == (72, 12)
    for showing in again:
        first = found[places[showing.about, False]]
        apart = places[showing.about, True] - places[showing.about, False]
        assert showing.left != first.left
        assert apart >= GAP or (apart >= 2 and places[showing.about, True] >= len(found) - len(again))


def test_all_reviewers_begin_with_the_same_pairs():
    orders = [
        [s.about for s in queue(ROWS, Blind(key, name), limit=10, repeat=0)]
        for key, name in ((b"k" * 32, "ann"), (b"l" * 32, "bob"))
    ]

    assert orders[0] == orders[1]
    assert len(orders[0]) == 10
    assert orders[0] != [subject(row) for row in ROWS[:10]]


def test_pairs_that_are_built_anew_keep_their_places():
    """Under other ids, in another order, with their sides exchanged: the pictures are the same."""
    turned = [
        {
            **row,
            "pair_id": row["pair_id"][::-1],
            "a_sha256": row["b_sha256"],
            "b_sha256": row["a_sha256"],
        }
        for row in reversed(ROWS)
    ]
    before, after = (queue(rows, BLIND, limit=30, repeat=0.2) for rows in (ROWS, turned))
    assert [(s.place, s.token) for s in before] == [(s.place, s.token) for s in after]
    sides = [(s.a_sha256 if s.left == "a" else s.b_sha256) for s in before]
    assert sides == [(s.a_sha256 if s.left == "a" else s.b_sha256) for s in after]


@pytest.mark.parametrize(
    ("pair", "label"),
    [
        ({"margin": 1.0}, "b"),
        ({"margin": -1.0}, "a"),
        ({"margin": 0.0}, None),
        ({"margin": 1.0, "label": "a", "reason": "label_kept"}, "a"),
        ({"margin": 1.0, "label": "a", "reason": "relabelled"}, "b"),
        ({"margin": 1.0, "winner": None, "reason": "inside_band"}, None),
        ({"margin": 1.0, "winner": None, "reason": "people_tie"}, "b"),
    ],
)
def test_reviewers_are_compared_with_the_label_that_stands_without_them(pair, label):
    assert _label({"winner": "b", "reason": "edit_won", "label": None, **pair}) == label


def test_verdicts_are_in_the_store_before_judge_returns_and_a_new_desk_goes_on(tmp_path):
    store = make_run(tmp_path / "run")
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        first = desk.next()
        assert desk.record(first, "left") == "saved"
        (row,) = verdicts(store)
        assert (row.choice, row.left, row.number) == (first.left, first.left, 0)
        second = desk.next()
        desk.record(second, "right")
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        assert desk.next().about not in (first.about, second.about)
        assert desk.progress().judged == 2
        assert desk.answer(desk.find(second.token)).choice != second.left


def test_skipped_pairs_come_again_at_the_end(tmp_path):
    make_run(tmp_path / "run", 3)
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        shown = []
        for word in ("skip", "tie", "reject", "left"):
            shown.append(desk.next())
            desk.record(shown[-1], word)

        assert shown[3] == shown[0]
        assert (desk.next(), desk.progress().judged, desk.progress().skipped) == (None, 3, 0)


def test_undo_takes_back_one_entry_after_the_other_even_after_a_restart(tmp_path):
    store = make_run(tmp_path / "run")
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        first, second = desk.next(), None
        desk.record(first, "left")
        second = desk.next()
        desk.record(second, "skip")
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        assert desk.undo(desk.number) == ("undone", second)
        assert desk.undo(desk.number) == ("undone", first)
        assert desk.undo(desk.number) == ("nothing", None)
        assert desk.next() == first
        desk.record(first, "right")
    assert [row.choice for row in verdicts(store)][:4:2] == [first.left, "undo"]
    assert len(standing_keys(store)) == 1


def test_an_undo_takes_back_only_what_its_window_has_seen(tmp_path):
    make_run(tmp_path / "run")
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        seen = desk.number
        desk.record(desk.next(), "left")

        assert desk.undo(seen) == ("nothing", None)
        assert desk.progress().judged == 1


def test_another_windows_other_verdict_does_not_replace_the_first(tmp_path):
    store = make_run(tmp_path / "run")
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        showing = desk.next()

        assert [desk.record(showing, word) for word in ("left", "left", "right")] == [
            "saved",
            "saved",
            "already",
        ]
        assert len(verdicts(store)) == 1


def test_two_reviewers_work_at_once_but_not_one_reviewer_twice(tmp_path):
    store = make_run(tmp_path / "run")
    with open_desk(tmp_path / "run", "ann") as ann, open_desk(tmp_path / "run", "bob") as bob:
        ann.record(ann.next(), "left")
        bob.record(bob.next(), "right")
        with pytest.raises(RunLocked, match="'ann' is reviewing"), open_desk(tmp_path / "run", "ann"):
            pass
    assert {row.reviewer for row in verdicts(store)} == {"ann", "bob"}


def test_a_pair_that_leaves_the_run_keeps_its_verdict_and_counts_when_it_returns(tmp_path):
    store = make_run(tmp_path / "run", 4)
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        showing = desk.next()
        kept = [row[2] for row in map(pair_of, range(4)) if row[2].pair_id != showing.pair_id]
        store.commit("pairs", kept, group="another0")
        store.prune("pairs", {"another0"})

        assert desk.record(showing, "left") == "removed"
        assert desk.progress().total == 3
        store.commit("pairs", [row[2] for row in map(pair_of, range(4))], group="another1")
        desk.refresh()
        assert (desk.progress().total, desk.progress().judged) == (4, 1)


def _chunks(data):
    found, place = [], 8
    while place < len(data):
        found.append(data[place + 4 : place + 8].decode())
        place += 12 + int.from_bytes(data[place : place + 4])
    return found


def test_pictures_are_encoded_alike_and_named_by_place_alone(tmp_path):
    make_run(tmp_path / "run")
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        showing = desk.next()
        tokens = [desk.pictures.token(showing, place) for place in ("left", "right")]
        data = [desk.pictures.get(token) for token in tokens]
        number = decode(data[0]).getpixel((0, 0))[0]
        sides = (showing.left, "ab"[showing.left == "a"])
        pixels = [decode(picture(number, side == "b")).tobytes() for side in sides]

        assert [decode(one).tobytes() for one in data] == pixels
        assert [_chunks(one) for one in data] == [["IHDR", "IDAT", "IEND"]] * 2
        assert len(data[0]) == len(data[1]), "the longer file would tell the edit"
        assert len({len(picture(number, edited)) for edited in (False, True)}) == 2, "as they are kept"
        assert all(word not in token for token in tokens for word in (showing.pair_id, showing.a_sha256))
        assert desk.pictures.get("0" * 32) is None


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        (((512, 512), (520, 512)), ((512, 512), (512, 512))),
        (((64, 64), (64, 64)), ((64, 64), (64, 64))),
        (((64, 64), (512, 512)), ((64, 64), (64, 64))),
        (((512, 256), (256, 512)), ((512, 256), (256, 512))),
    ],
)
def test_the_size_of_a_picture_does_not_tell_the_edit(sizes, expected):
    """An editor that rounds sizes up is not told from the generator; truly other shapes are left alone."""
    found = alike(*(Pillow.new("RGB", size) for size in sizes))

    assert tuple(picture.size for picture in found) == expected


def test_a_run_without_accepted_pairs_has_nothing_to_review(tmp_path):
    make_run(tmp_path / "run", 2, verdict="dropped", reason="unchanged", winner=None)

    with pytest.raises(UsageError, match="no accepted pairs"), open_desk(tmp_path / "run", "ann"):
        pass


def test_small_files_of_earlier_sittings_are_joined_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr("rpo_cli.line.review.desk.MANY", 3)
    store = make_run(tmp_path / "run", 5)
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        while (showing := desk.next()) is not None:
            desk.record(showing, "tie")
    before = verdicts(store)
    with open_desk(tmp_path / "run", "ann", repeat=0) as desk:
        assert desk.next() is None
    assert (len(before), verdicts(store)) == (5, before)
    assert len(store.parts("verdicts")) == 1


def judge_all(run, reviewer, word_of, repeat=0.0):
    with open_desk(run, reviewer, repeat=repeat) as desk:
        while (showing := desk.next()) is not None:
            desk.record(showing, word_of(showing))


def side(showing, wanted):
    return "left" if showing.left == wanted else "right"


def test_the_summary_counts_consistency_and_agreement(tmp_path):
    """8 pairs whose label is b. ann says b of all, bob of 6; cat presses left whatever she sees."""
    run = tmp_path / "run"
    make_run(run, 8)
    few = {pair_of(number)[2].pair_id for number in range(2)}
    judge_all(run, "ann", lambda showing: side(showing, "b"), repeat=0.5)
    judge_all(run, "bob", lambda showing: side(showing, "a" if showing.pair_id in few else "b"))
    judge_all(run, "cat", lambda showing: "left", repeat=0.5)

    found = summarise(run)

    ann, bob, cat = found.reviewers
    assert (ann.judged, ann.consistent.value, ann.consistent.cases) == (8, 1.0, 4)
    assert (cat.consistent.value, cat.left.value, bob.consistent) == (0.0, 1.0, None)
    assert (ann.agreement["all"].value, bob.agreement["edit"].value) == (1.0, 0.75)
    assert bob.agreement["all"].low < 0.75 < bob.agreement["all"].high
    assert next((k.first, k.second, k.pairs) for k in found.kappas) == ("ann", "bob", 8)
    assert found.kappas[0].same == 0.75


def test_kappa_is_of_pictures_not_of_the_names_of_sides():
    """Two who always prefer the edit agree fully: that it is side b is no chance they could play to."""
    rows = {subject(row): {**row, "choice": "b"} for row in ROWS[:20]}
    other = {about: {**row, "choice": "a"} for about, row in rows.items()}

    same, opposite = (_kappa("ann", "bob", {"ann": rows, "bob": found}) for found in (rows, other))

    assert (same.same, same.kappa.value) == (1.0, 1.0)
    assert opposite.kappa.value < -0.7


def test_a_run_without_verdicts_has_no_summary(tmp_path):
    make_run(tmp_path / "run")

    with pytest.raises(UsageError, match="no verdicts yet"):
        summarise(tmp_path / "run")

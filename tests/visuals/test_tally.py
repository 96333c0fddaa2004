"""What a report counts, counted by hand."""

import math
import random
from collections import Counter

import pytest

from rpo_cli.visuals.tally import (
    CURVE_POINTS,
    Sampler,
    Tally,
    aspect_scores,
    binned,
    duplicates,
    first_word,
    margin_bins,
    score_bins,
    thinned,
)


def named(values):
    return [{"name": name, "value": value} for name, value in values.items()]


ACCEPTED = ("edit_won", "reversed", "seed_won", "counter_lost")


def row(number, margins, reason="edit_won", **changes):
    """A row of `pairs` as a table gives it."""
    return {
        "pair_id": f"{number:032x}",
        "prompt_id": f"p{number}",
        "pair_kind": "edit",
        "a_sha256": f"a{number}",
        "b_sha256": f"b{number}",
        "instruction": "make it red",
        "rewards_a": named(dict.fromkeys(margins, 0.0)),
        "rewards_b": named(margins),
        "margins": named(margins),
        "margin": sum(margins.values()) / max(1, len(margins)),
        "agreement": 1.0,
        "verdict": "accepted" if reason in ACCEPTED else "dropped",
        "reason": reason,
        "hash_distance": 20,
        "duplicate_of": None,
        **changes,
    }


def tallied(rows):
    tally = Tally()
    for item in rows:
        tally.add(item)
    return tally


def test_agreement_is_the_share_of_equal_signs_and_kappa_is_by_hand():
    """Signs ++, ++, +-, --: equal in 3 of 4; chance .75·.5 + .25·.5 = .5, so kappa is .5."""
    signs = [(1, 1), (1, 1), (1, -1), (-1, -1)]
    (found,) = tallied(row(n, {"clip": a, "vqa": b}) for n, (a, b) in enumerate(signs)).agreement()

    assert (found.first, found.second, found.pairs) == ("clip", "vqa", 4)
    assert (found.same, found.kappa) == (0.75, pytest.approx(0.5))


def test_kappa_of_rewards_that_always_say_one_thing_is_undefined():
    (found,) = tallied(row(n, {"clip": 1.0, "vqa": 1.0}) for n in range(3)).agreement()

    assert found.same == 1.0
    assert math.isnan(found.kappa)


def test_a_picture_in_several_pairs_of_its_prompt_is_scored_once():
    tally = tallied(row(n, {"clip": 1.0}, prompt_id="p", a_sha256="same") for n in range(3))

    assert len(tally.scores["clip", "original"]) == 1
    assert len(tally.scores["clip", "edit"]) == 3


def test_pairs_of_seeds_count_as_two_originals_and_margins_that_are_no_numbers_not_at_all():
    tally = tallied([row(1, {"clip": 1.0}, pair_kind="seeds"), row(2, {"clip": math.nan})])

    assert len(tally.scores["clip", "original"]) == 3  # the second row has an original too
    assert list(tally.margins) == [1.0]
    assert tally.pairs == 2


def test_instructions_are_counted_by_first_word_and_outcome():
    rows = [row(1, {}), row(2, {}, "reversed"), row(3, {}, "unchanged", instruction="Make, it blue")]

    assert tallied(rows).instructions == {"make": {"won": 1, "reversed": 1, "dropped": 1}}
    asked_by_none = row(9, {"clip": -1.0}, "counter_lost", pair_kind="counter")
    assert tallied([asked_by_none]).instructions == {}
    assert tallied([asked_by_none]).kinds == {"counter": 1}
    assert first_word("  \n ") == ""


def test_bins_hold_every_value_and_what_is_beyond_goes_to_the_ends():
    bins = margin_bins([-99.0, 0.1, 99.0])

    assert (bins.counts[0], bins.counts[-1], sum(bins.counts)) == (1, 1, 3)
    assert binned([0.0, 1.0, 1.5, 2.0], 0, 2, 2).counts == (1, 3)


def test_scores_of_originals_and_edits_share_their_range():
    found = score_bins({"originals": [0.0, 1.0], "edits": [2.0, 3.0]})

    assert found["originals"].edges == found["edits"].edges
    assert (found["originals"].edges[0], found["edits"].edges[-1]) == (0.0, 3.0)
    assert sum(score_bins({"x": [1.0, 1.0]})["x"].counts) == 2


def test_long_curves_are_thinned_to_means_and_short_ones_kept():
    points = [(float(n), float(n)) for n in range(1000)]

    assert len(thinned(points)) == CURVE_POINTS
    assert thinned(points)[0] == (2.0, 2.0)
    assert thinned(points[:5]) == points[:5]


def sampled(rows, limit=8, step=7):
    sampler = Sampler(limit)
    for start in range(0, len(rows), step):
        sampler.add(rows[start : start + step])
    return sampler.chosen()


def test_the_choice_does_not_depend_on_order_or_parts():
    rows = [row(n, {"clip": n / 7 - 3}, ("edit_won", "reversed", "unchanged")[n % 3]) for n in range(60)]
    shuffled = random.Random(0).sample(rows, len(rows))

    assert sampled(rows) == sampled(shuffled, step=60) == sampled(shuffled, step=1)


def test_best_pairs_have_the_largest_margins_borderline_the_smallest_and_none_is_both():
    rows = [row(n, {"clip": float(n)}) for n in range(1, 4)]
    found = sampled(rows, limit=400)

    assert found["best"] == [rows[2]["pair_id"], rows[1]["pair_id"]]
    assert found["borderline"] == [rows[0]["pair_id"]]


def test_every_drop_reason_is_shown_before_one_is_shown_twice():
    rows = [row(n, {}, "inside_band") for n in range(50)] + [row(99, {}, "unchanged")]

    assert rows[-1]["pair_id"] in sampled(rows, limit=10)["dropped"]


def test_the_choice_is_bounded():
    rows = [row(n, {"clip": n + 1.0}, ("edit_won", "reversed", "unchanged")[n % 3]) for n in range(500)]
    rows += [row(n, {"clip": -n}, "counter_lost", pair_kind="counter") for n in range(500, 600)]

    assert {name: len(keys) for name, keys in sampled(rows, limit=40).items()} == {
        "best": 8,
        "borderline": 8,
        "counter": 8,
        "reversed": 8,
        "dropped": 8,
    }


def test_counter_edits_have_a_section_of_their_own_however_clear_they_are():
    answer = row(1, {"clip": 0.5})
    counter = [row(n, {"clip": -float(n)}, "counter_lost", pair_kind="counter") for n in (2, 9, 5)]
    found = sampled([answer, *counter], limit=40)

    assert found["best"] == [answer["pair_id"]]
    assert found["counter"] == [counter[n]["pair_id"] for n in (1, 2, 0)]


def test_equal_pictures_equal_pairs_and_pictures_that_look_alike_are_counted():
    distances = (0, 2, 3, 10, 11, 64)
    rows = [row(number, {"clip": 1.0}, hash_distance=found) for number, found in enumerate(distances)]
    rows.append(row(9, {"clip": 1.0}, reason="duplicate", duplicate_of=rows[0]["pair_id"]))

    found = duplicates(tallied(rows), 1_300, 1_200)

    assert [count for _, count in found.rows] == ["1,300", "100", "1", "2", "1", "1", "3"]


def test_pictures_that_cannot_be_read_look_like_nothing():
    """Their candidates were never measured and stand as 0 bits apart."""
    rows = [row(1, {"clip": 1.0}, reason="corrupt_image", hash_distance=0), row(2, {"clip": 1.0})]

    assert [count for _, count in duplicates(tallied(rows), 4, 4).rows][3:] == ["0", "0", "0", "1"]


def test_scores_are_counted_by_mark_and_their_mean_is_exact():
    found = aspect_scores({"detail": Counter({1.0: 1, 4.4: 2}), "alignment": Counter({5.0: 1, 9.0: 1})})

    assert found.rows == [
        ("alignment", "2", "7.00", "0", "0", "0", "0", "2"),
        ("detail", "3", "3.27", "1", "0", "0", "2", "0"),
    ]
    assert aspect_scores({}).rows == []

"""Tables of what is there twice, and of critiques' scores, counted by hand."""

from collections import Counter

from rpo_cli.visuals.tally import aspect_scores, duplicates
from tests.report.test_figures import row, tallied


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

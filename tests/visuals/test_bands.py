"""Curves with bands: as XML, to scale, each setting told apart."""

import xml.etree.ElementTree as ET

import pytest

from rpo_cli.visuals.bands import COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Band, overlaid, ticks

HOSTILE = "</title><script>alert(1)</script>\"'&"
SVG = "{http://www.w3.org/2000/svg}"
FLAT = [Band(0, 0.5, 0.0, 1.0), Band(10, 0.5, 0.0, 1.0)]


def parsed(text):
    return ET.fromstring(text)


def of_class(text, name):
    return [item for item in parsed(text).iter() if item.get("class") == name]


def points(item):
    return [tuple(map(float, point.split(","))) for point in item.get("points").split()]


def test_there_is_one_band_and_one_line_per_setting_each_of_a_colour():
    drawn = overlaid({"dpo": FLAT, "kto": FLAT, "sft": FLAT[:1]}, title="t", unit="step")

    bands = of_class(drawn, "band")
    assert [band.get("fill") for band in bands] == list(COLOURS[:3])
    lines = [line.get("stroke") for line in of_class(drawn, "mean")]
    assert lines == [*COLOURS[:3], *COLOURS[:3]]  # and a piece of each in the key
    words = [item.text for item in parsed(drawn).iter(f"{SVG}text")]
    assert {"dpo", "kto", "sft", "t", "step"} <= set(words)


def test_a_band_reaches_from_the_lowest_to_the_highest_and_the_line_is_the_mean():
    drawn = overlaid({"dpo": FLAT}, title="t", unit="step")

    (band,) = of_class(drawn, "band")
    bottom, right = HEIGHT - 48, WIDTH - RIGHT
    assert points(band) == [(LEFT, TOP), (right, TOP), (right, bottom), (LEFT, bottom)]
    assert points(of_class(drawn, "mean")[0]) == [
        (LEFT, (TOP + bottom) / 2),
        (right, (TOP + bottom) / 2),
    ]


def test_beyond_the_colours_dashes_tell_settings_apart():
    many = {f"setting {n}": FLAT for n in range(len(COLOURS) + 1)}

    drawn = of_class(overlaid(many, title="t", unit="step"), "mean")[: len(many)]

    looks = {(line.get("stroke"), line.get("stroke-dasharray")) for line in drawn}
    assert len(looks) == len(many)


def test_labels_stay_text_and_equal_numbers_give_equal_bytes():
    drawn = overlaid({HOSTILE: FLAT}, title=HOSTILE, unit=HOSTILE)

    assert "<script>" not in drawn
    assert parsed(drawn).find(f"{SVG}title").text == HOSTILE
    assert drawn == overlaid({HOSTILE: FLAT}, title=HOSTILE, unit=HOSTILE)


def test_what_is_not_finite_is_left_out_and_nothing_at_all_is_refused():
    broken = [Band(0, float("nan"), 0.0, 1.0)]

    (band, _) = of_class(overlaid({"a": FLAT, "b": broken}, title="t", unit="u"), "band")
    assert len(points(band)) == 4
    with pytest.raises(ValueError, match="nothing"):
        overlaid({"b": broken}, title="t", unit="u")


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 60, [0, 10, 20, 30, 40, 50, 60]),
        (0, 4, [0, 1, 2, 3, 4]),
        (0.26, 0.59, [0.3, 0.4, 0.5]),
        (-1e-4, 1e-4, [-1e-4, -5e-5, 0, 5e-5, 1e-4]),
    ],
)
def test_ticks_are_round_numbers(low, high, wanted):
    assert ticks(low, high) == pytest.approx(wanted)

import math
import re
import xml.etree.ElementTree as ET

import pytest

from rpo_cli.visuals.charts import HEIGHT, WIDTH, bars, curves, histogram
from rpo_cli.visuals.tally import Bins

HOSTILE = "</title><script>alert(1)</script>\"'&"


def parsed(chart):
    """The chart as XML: a label that broke out of its element would not parse to the same words."""
    return ET.fromstring(str(chart))


def of_class(chart, name):
    return [item for item in parsed(chart).iter() if item.get("class") == name]


def words(chart):
    return [item.text for item in parsed(chart).iter("text")]


def test_columns_are_as_high_as_their_counts():
    chart = histogram(Bins((0.0, 1.0, 2.0, 3.0), (4, 0, 1)), title="t", unit="u")

    heights = [float(column.get("height")) for column in of_class(chart, "bar")]
    assert len(heights) == 2  # an empty bin has no column
    assert math.isclose(heights[0], 4 * heights[1], rel_tol=0.01)
    assert "4" in words(chart)


def test_a_mark_stands_at_its_value_and_outside_the_range_not_at_all():
    bins = Bins((-4.0, 0.0, 4.0), (1, 1))
    chart = histogram(bins, title="t", unit="u", marks={0.0: "tie", 9.0: "far"})

    (mark,) = of_class(chart, "mark")
    first, second = of_class(chart, "bar")
    assert float(first.get("x")) < float(mark.get("x1")) <= float(second.get("x"))
    assert "tie" in words(chart)
    assert "far" not in words(chart)


def test_bars_are_as_long_as_their_counts_and_say_them():
    chart = bars([("prompts", 1000), ("pairs", 250)], title="funnel")

    assert [float(bar.get("width")) for bar in of_class(chart, "bar")] == [WIDTH, WIDTH / 4]
    assert words(chart) == ["prompts", "1,000", "pairs", "250"]


def test_lines_are_told_apart_without_colour():
    chart = curves({"train": [(0, 1.0), (1, 0.5)], "validation": [(0, 2.0), (1, 1.0)]}, title="loss")

    classes = {item.get("class") for item in parsed(chart).iter("polyline")}
    assert classes == {"line s0", "line s1"}
    assert {"train", "validation"} <= set(words(chart))
    assert [item.tag for item in of_class(chart, "dot")] == ["circle"] * 3 + ["rect"] * 3


def test_a_falling_curve_falls_and_stays_inside_its_frame():
    chart = curves({"train": [(0, 2.0), (5, math.nan), (10, 1.0)]}, title="loss")

    line = next(item for item in parsed(chart).iter("polyline"))
    (x0, y0), (x1, y1) = [map(float, point.split(",")) for point in line.get("points").split()]
    assert 0 < x0 < x1 < WIDTH
    assert 0 < y0 < y1 < HEIGHT  # y grows downwards


def test_curves_of_nothing_or_of_one_value_do_not_divide_by_zero():
    assert curves({"train": [(0, math.nan)]}, title="loss") == ""
    assert "nan" not in curves({"train": [(3, 0.0)]}, title="loss")
    assert parsed(bars([], title="none")) is not None


def test_hostile_labels_stay_text():
    for chart in (
        bars([(HOSTILE, 1)], title=HOSTILE),
        histogram(Bins((0.0, 1.0), (1,)), title=HOSTILE, unit=HOSTILE, marks={0.5: HOSTILE}),
        curves({HOSTILE: [(0, 1.0)]}, title=HOSTILE),
    ):
        assert "<script" not in chart
        assert next(parsed(chart).iter("title")).text == HOSTILE


@pytest.mark.parametrize(
    ("value", "said"),
    [(-0.000743, "-7.4e-4"), (-12345.0, "-1.2e4"), (0.00186, "0.00186"), (-0.0105, "-0.0105"), (0.0, "0")],
)
def test_a_tick_fits_beside_its_axis_with_its_sign(value, said):
    drawn = curves({"train": [(0, value), (1, value / 2)]}, title="t")
    ticks = re.findall(r'text-anchor="end">([^<]*)<', drawn)

    assert said in ticks
    assert max(map(len, ticks)) <= 8

"""The tables of a dataset's labels in a report."""

from rpo_cli.visuals.evaluated import labels

SPAN = {"value": 0.75, "low": 0.5, "high": 1.0}
RESULTS = {
    "pairs": 1200,
    "looked_at": 900,
    "agreement": {"<b>clip": {"all": {"pairs": 9, "agree": 6, "tie": 1, "disagree": 2, "share": SPAN}}},
    "beside_people": {},
    "noise_by_margin": {"clip": [{"from": 3.0, "to": None, "pairs": 2, "wrong": SPAN}]},
    "moves": {"edit": {"pixel": {"0.05": 0.1, "0.95": 0.3}}},
    "probe": {
        "features": "v1",
        "edited": {"pictures": 40, "accuracy": SPAN, "chance": 0.5},
        "winner": None,
    },
}


def test_every_figure_has_its_cell_and_empty_tables_are_left_out():
    found = labels("default", RESULTS)

    assert found is not None
    assert (found.name, found.summary) == ("Labels of the dataset", "1,200 pairs, 900 of them looked at.")
    assert [table.rows for table in found.tables] == [
        [("<b>clip", "all", "6", "1", "2", "0.750 [0.500,\N{NO-BREAK SPACE}1.000]")],
        [("clip", "3 and more", "2", "0.750 [0.500,\N{NO-BREAK SPACE}1.000]")],
        [("edit", "pixel", "0.100", "0.300")],
        [
            ("edited pictures from originals", "40", "0.750 [0.500,\N{NO-BREAK SPACE}1.000]", "0.500"),
            ("winners from losers", "too few", "–", "–"),
        ],
    ]
    assert found.tables[2].head == ("pairs of", "distance", "5 %", "95 %")
    assert all(len(row) == len(table.head) for table in found.tables for row in table.rows)


def test_a_name_of_its_own_is_told_and_a_broken_file_is_not_shown():
    named = labels("mine", RESULTS)
    assert named is not None
    assert named.name == "Labels of the dataset, mine"
    assert labels("default", {}) is None
    assert labels("default", {**RESULTS, "agreement": {"clip": None}}) is None

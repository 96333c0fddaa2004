"""Precision of pairs by threshold: the counts, and that the committed cell is of the committed run."""

import tomllib
from pathlib import Path

from tests.bench.cells import cells, find
from tests.bench.evidence import PROTOCOL
from tests.bench.lines import data_inputs
from tests.bench.pairs import GATES, MARGINS, PLOT, counted, plot, table

DATA = tomllib.loads(PROTOCOL.read_text())["data"]


def test_a_pair_is_right_when_the_oracle_finds_its_winner_better() -> None:
    found = counted([("a", 0.5), ("a", 0.25), ("b", 0.0), ("c", -0.25)])

    assert found is not None
    assert (found["pairs"], found["right"], found["equal"], found["wrong"]) == (4, 2, 1, 1)
    assert found["share"]["value"] == 0.5
    assert (found["share"]["low"], found["share"]["high"]) == (0, 1)  # all of a, or none of it
    assert counted([]) is None


def test_the_committed_precision_is_of_the_dataset_that_the_evidence_trains_on(tmp_path: Path) -> None:
    inputs = {**data_inputs(DATA, tmp_path), "margins": MARGINS, "gates": GATES}
    value = find("pairs", "precision", inputs)
    (dataset,) = (cell["value"] for cell in cells("evidence") if cell["name"] == "dataset")

    assert value is not None, "run make bench-pairs"
    for kind, labels in dataset["labels"].items():
        found = value["preset"][kind]
        assert (found["right"], found["equal"], found["wrong"]) == (
            labels["better"],
            labels["equal"],
            labels.get("worse", 0),
        )
    assert value["margins"]["0.5"] == value["preset"]
    assert plot(value) == PLOT.read_text()
    assert len(list(table(value))) == 2 + len(MARGINS) + 4 + len(GATES)

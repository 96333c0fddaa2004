"""A committed cell is what the code gives today, and writing one loses none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rpo_cli.records import canonical_json
from tests.bench import cells, shapes_eval

COMMITTED = cells.RESULTS
# of `scale` a line is what one command took (`tests/bench/at_scale/table.py`), no cell
BENCHES = sorted({file.stem for file in COMMITTED.glob("*.jsonl")} - {"scale"})
BEGIN = """
import os, sys
from pathlib import Path
from tests.bench import cells
cells.RESULTS = Path(sys.argv[1])
"""
KILLED = """
setattr(os, sys.argv[2], lambda *of: os._exit(9))
cells.keep("b", "new", {}, {"share": 0.5})
"""
TWENTY = """
for number in range(20):
    cells.keep("b", f"{sys.argv[2]}-{number}", {"n": number}, {"text": "x" * 5000})
"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cells, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


def start(code: str, results: Path, told: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BEGIN + code, str(results), told])


def test_a_cell_is_computed_once_and_given_then_as_it_is_read_later(results: Path) -> None:
    def compute() -> dict[str, object]:
        assert not list(results.glob("*")), "computed although it is there"
        return {"b": 0.1234567, "a": (1, {"mean": 28.142536}), "small": 4e-6, "n": 3}

    first = cells.cell("b", "one", {"margins": (0.5, 1e-7)}, compute)

    assert first == {"a": [1, {"mean": 28.14254}], "b": 0.12346, "n": 3, "small": 0.0}
    assert cells.cell("b", "one", {"margins": [0.5, 1e-7]}, compute) == first
    assert (results / "b.jsonl").read_text() == (
        '{"inputs":{"margins":[0.5,1e-07]},"name":"one",'
        '"value":{"a":[1,{"mean":28.14254}],"b":0.12346,"n":3,"small":0.0}}\n'
    )


def test_other_inputs_or_another_name_or_bench_are_another_cell(results: Path) -> None:
    cells.keep("b", "one", {"seed": 1}, {"share": 0.5})

    assert cells.find("b", "one", {"seed": 1}) == {"share": 0.5}
    assert cells.find("b", "one", {"seed": 10}) is None
    assert cells.find("b", "one", {"seed": 1, "more": 0}) is None
    assert cells.find("b", "one-more", {"seed": 1}) is None
    assert cells.find("other", "one", {"seed": 1}) is None


def test_a_cell_kept_again_takes_its_own_place_and_no_others(results: Path) -> None:
    for name, seed in (("z", 0), ("a", 1), ("a", 0), ("line\u2028end", 0)):
        cells.keep("b", name, {"seed": seed}, {"share": 0.25})

    cells.keep("b", "a", {"seed": 0}, {"share": 0.75})

    found = [(cell["name"], cell["inputs"]["seed"], cell["value"]["share"]) for cell in cells.cells("b")]
    assert found == [("a", 0, 0.75), ("a", 1, 0.25), ("line\u2028end", 0, 0.25), ("z", 0, 0.25)]


def test_processes_that_write_one_file_at_once_lose_no_cell(results: Path) -> None:
    writers = [start(TWENTY, results, str(writer)) for writer in range(3)]

    assert [writer.wait() for writer in writers] == [0, 0, 0]
    names = {cell["name"] for cell in cells.cells("b")}
    assert names == {f"{writer}-{number}" for writer in range(3) for number in range(20)}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_kill_while_a_cell_is_written_loses_none_and_stops_no_later_one(results: Path, step: str) -> None:
    cells.keep("b", "old", {}, {"share": 0.25})

    assert start(KILLED, results, step).wait() == 9

    assert [cell["name"] for cell in cells.cells("b")] == ["old"]
    cells.keep("b", "newer", {}, {"share": 0.75})
    assert [cell["name"] for cell in cells.cells("b")] == ["newer", "old"]


@pytest.mark.parametrize("bench", BENCHES)
def test_a_committed_file_has_each_cell_once_and_as_it_would_be_written(bench: str) -> None:
    lines = (COMMITTED / f"{bench}.jsonl").read_text(encoding="utf-8").split("\n")
    found = [json.loads(line) for line in lines[:-1]]

    assert lines[-1] == ""
    assert [canonical_json({**cell, "value": cells.rounded(cell["value"])}) for cell in found] == lines[:-1]
    assert all(cell.keys() == {"inputs", "name", "value"} for cell in found)
    told = [canonical_json([cell["name"], cell["inputs"]]) for cell in found]
    assert len({*told}) == len(told)
    assert [cell["name"] for cell in found] == sorted(cell["name"] for cell in found)


def test_the_committed_figures_of_the_oracle_are_computed_again() -> None:
    (committed,) = (cell for cell in cells.cells("shapes") if cell["name"] == "oracle")
    asked = committed["inputs"]

    assert shapes_eval.measure_oracle(asked["split"], asked["cases"]) == committed["value"]["result"]


def test_every_printed_part_has_one_committed_cell() -> None:
    """`make bench-shapes` computes nothing on the shipped weights."""
    generated = shapes_eval.asdict(shapes_eval.TEXT_TO_IMAGE)
    found = cells.cells("shapes")
    (asked,) = (cell["inputs"] for cell in found if cell["name"] == "text-to-image")

    assert {cell["name"] for cell in found} == {
        *("oracle", "vae", "text-to-image", "editor-clean", "editor-flawed"),
        *("critic-clean", "critic-generated", "reward-clean", "reward-generated"),
        *("vqascore-clean", "vqascore-generated"),
    }
    assert {key: asked[key] for key in generated} == generated
    weights = shapes_eval.weights_hash(shapes_eval.manifest.MODELS / "text-to-image")
    assert asked["weights"] == weights

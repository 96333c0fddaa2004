"""The bench for a device: its table and budget, and a rehearsal of all of it on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.gpu import __main__ as gpu
from tests.bench.gpu import families, table
from tests.bench.gpu.children import Run
from tests.bench.gpu.measures import MEASURES, RATIOS, Bench, Measure, Ratio, rated
from tests.bench.speed.place import Failed

ROOT = Path(__file__).parents[2]


def bench(tmp_path, left=100.0, **lines):
    return Bench(tmp_path, "cpu", True, lambda: left, lines)


def lines_of(out):
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_the_last_line_of_a_measure_counts_and_a_goal_is_met_or_not():
    goal = {"pairs_per_second": ">= 49"}
    lines = [
        {"measure": "machine", "device": "none"},
        {"measure": "full", "failed": "it broke"},
        {
            "measure": "slow",
            "pairs_per_second": 48.0,
            "mfu": 0.39,
            "memory": 2e9,
            "seconds": 9,
            "goal": goal,
        },
        {"measure": "later", "skipped": "it takes 50 s, 3 are left"},
        {
            "measure": "full",
            "pairs_per_second": 49.0,
            "mfu": 0.4,
            "memory": 3e9,
            "seconds": 8,
            "goal": goal,
        },
        {"measure": "memory", "ratio": 0.7, "goal": {"ratio": "<= 0.6"}},
    ]

    assert table.markdown(lines).splitlines()[2:] == [
        "| full | 49 | 0.400 | 3.0 | 8 | >= 49 | met |",
        "| slow | 48 | 0.390 | 2.0 | 9 | >= 49 | **missed** |",
        "| later |  |  |  |  |  | left out: it takes 50 s, 3 are left |",
        "| memory | 0.70 |  |  |  | <= 0.6 | **missed** |",
    ]


def test_a_rehearsal_is_no_measurement():
    lines = [{"measure": "machine", "rehearsed": True}, {"measure": "full", "pairs_per_second": 9.0}]

    assert table.printed(lines).startswith("**Not measured**")


def test_a_measure_that_does_not_fit_is_said_and_left_out(tmp_path, monkeypatch):
    short, long = (Measure(name, lambda _: {"value": 1.0}, takes) for name, takes in (("a", 5), ("b", 50)))
    monkeypatch.setattr(gpu, "MEASURES", (long, short))
    monkeypatch.setattr(gpu, "RATIOS", ())

    gpu.measure(bench(tmp_path, left=20.0), tmp_path / "out", 1.0)

    assert lines_of(tmp_path / "out") == [
        {"measure": "b", "skipped": "it takes 50 s, 20 are left"},
        {"measure": "a", "value": 1.0},
    ]


def test_a_measure_that_fails_stops_none_of_the_others(tmp_path, monkeypatch):
    def broken(_):
        raise Failed("exit 1 after 3 s: no memory")

    monkeypatch.setattr(gpu, "MEASURES", (Measure("a", broken, 1), Measure("b", lambda _: {}, 1)))
    gpu.measure(bench(tmp_path), tmp_path / "out", 1.0)

    assert lines_of(tmp_path / "out") == [
        {"measure": "a", "failed": "Failed: exit 1 after 3 s: no memory"},
        {"measure": "b"},
    ]


def test_what_was_measured_before_a_kill_is_not_measured_again(tmp_path, monkeypatch):
    """Of three lines the failed and the skipped one are tried again, and the ratio is told then."""
    out = tmp_path / "out"
    before = [{"measure": "a", "v": 6.0}, {"measure": "b", "failed": "x"}, {"measure": "c", "skipped": "x"}]
    out.write_text("".join(json.dumps(line) + "\n" for line in before))
    monkeypatch.setattr(gpu, "MEASURES", tuple(Measure(n, lambda _: {"v": 2.0}, 1) for n in "abc"))
    monkeypatch.setattr(gpu, "RATIOS", (Ratio("a over b", "v", ("a", "b"), ">= 1"),))

    gpu.measure(bench(tmp_path, **gpu.known(out)), out, 1.0)

    assert lines_of(out)[3:] == [
        {"measure": "b", "v": 2.0},
        {"measure": "a over b", "ratio": 3.0, "goal": {"ratio": ">= 1"}},
        {"measure": "c", "v": 2.0},
    ]


def test_rows_a_second_are_those_between_the_first_part_and_the_last():
    """Three parts of 4 rows at 10, 12 and 14 s: 8 rows in 4 s; the part that joins them does not count."""
    took = Run(seconds=20.0, memory=7, parts=[10.0, 12.0, 14.0, 19.0])

    assert rated("rows", took, 4, 12) == {"rows": 2.0, "memory": 7, "seconds": 20.0}


def test_ratios_are_of_measures_that_there_are():
    names = [measure.name for measure in MEASURES]

    assert len(set(names)) == len(names)
    assert all(name in names for ratio in RATIOS for name in ratio.over)


def test_every_family_has_a_true_and_a_small_shape():
    assert families.TRUE.keys() == families.SMALL.keys()


@pytest.mark.parametrize(
    ("name", "part", "millions"),
    [("sd15", "unet", 860), ("sdxl", "unet", 2567), ("sd3.5-medium", "transformer", 2243)],
)
def test_a_true_shape_has_the_published_number_of_weights(name, part, millions, monkeypatch, tmp_path):
    """Without their numbers: on the meta device."""
    import torch

    drawn = {}
    monkeypatch.setattr(families, "_saved", lambda pipe, folder: drawn.update(pipe.components))
    with torch.device("meta"):
        families.TRUE[name].draw(tmp_path)

    assert round(sum(value.numel() for value in drawn[part].parameters()) / 1e6) == pytest.approx(
        millions, abs=1
    )


@pytest.mark.slow
def test_all_of_it_is_rehearsed_on_the_cpu(tmp_path):
    """Every measure and ratio gives a line, none fails; in forks of one process (`warm.py`)."""
    out = tmp_path / "lines"
    told = ["--rehearse", "--work", str(tmp_path / "work"), "--out", str(out)]
    words = [sys.executable, "-m", "tests.bench.warm", "tests.bench.gpu.__main__", *told]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True)

    lines = lines_of(out)
    assert [line for line in lines if {"failed", "skipped"} & line.keys()] == []
    assert {line["measure"] for line in lines} == {
        "machine",
        *(measure.name for measure in MEASURES),
        *(ratio.name for ratio in RATIOS),
    }


def test_a_machine_without_a_driver_is_called_cpu(monkeypatch):
    monkeypatch.setenv("PATH", "")

    assert gpu.device_name() == "cpu"

"""The bench beside plain scripts: what its table says, what it measures again, that both sides agree."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import cells
from tests.bench.speed import __main__ as speed
from tests.bench.speed import pictures, table
from tests.bench.speed.place import Failed, Place, Side, fitting
from tests.bench.speed.rows import Bound, Row
from tests.bench.speed.sizes import REHEARSAL, SIZES

ROOT = Path(__file__).parents[2]
PLAIN = sorted((ROOT / "tests/bench/plain").glob("*.py"))


def turn(ours, plain, numbers=((), ())):
    """CPU seconds and bytes of both sides."""
    sides = zip(("rpo", "plain"), (ours, plain), numbers, strict=True)
    return {
        name: {"cpu": cpu, "seconds": 2 * cpu, "memory": memory, "numbers": list(found)}
        for name, (cpu, memory), found in sides
    }


def test_a_ratio_is_the_median_of_the_turns_ratios():
    """2/1, 9/3 and 4/4 s: medians of the sides would give 4/3."""
    turns = [turn((2.0, 100), (1.0, 100)), turn((9.0, 90), (3.0, 100)), turn((4.0, 130), (4.0, 100))]

    assert table.ratio(turns, "cpu") == 2.0
    assert table.ratio(turns, "memory") == 1.0


@pytest.mark.parametrize(
    ("bound", "short"),
    [
        (Bound(time=2.0, memory=1.5), []),
        (Bound(time=1.9), ["time"]),
        (Bound(memory=1.4), ["memory"]),
        (Bound(memory=2.0, least=1.6), ["memory"]),
        (Bound(cpu=5.9), ["seconds"]),
        (Bound(over=2.9), ["seconds more"]),
        (Bound(time=1.0, over=1.0), ["time", "seconds more"]),
        (Bound(), []),
    ],
)
def test_a_bound_is_missed_by_each_of_its_parts(bound, short):
    """rpo takes 6 s and 150 bytes, the script 3 s and 100."""
    assert table.missed([turn((6.0, 150), (3.0, 100))], bound) == short


def test_what_one_side_alone_did_has_no_ratio():
    alone = [turn((6.0, 150), (0.0, 0))]

    assert table.ratio(alone, "cpu") is None
    assert table.missed(alone, Bound(time=1.05, memory=1.05, cpu=7.0)) == []


@pytest.mark.parametrize(("rows", "short"), [((0.0,), []), ((300.0,), ["rows nobody asked for"])])
def test_rows_that_nobody_asked_for_miss_a_bound(rows, short):
    assert table.missed([turn((1.0, 1), (0.0, 0), (rows, ()))], Bound(nothing=True)) == short


def test_a_turn_that_failed_is_measured_again(counted):
    asked, row, told = counted
    told.sizes, told.turns = ["shapes"], 2
    inputs = {"row": "draw", "size": "shapes", "turn": 1}
    cells.keep("speed", "draw, shapes, 1", inputs, {"failed": "exit 1"})
    speed.walk(told, [row])

    assert len(asked) == 2
    assert not any("failed" in cell["value"] for cell in cells.cells("speed"))


def test_the_peak_of_a_process_is_its_own_and_not_that_of_the_bench(tmp_path):
    """The bench holds 200 MB; the process holds nothing."""
    held = bytearray(b"1" * 200_000_000)
    side, said = Place(tmp_path, "shapes", REHEARSAL).run([sys.executable, "-S", "-c", "print('here')"])

    assert len(held) > 20 * side.memory > 0
    assert said == "here\n"


def test_a_failure_names_no_folder_of_the_machine(tmp_path):
    place = Place(tmp_path, "shapes", REHEARSAL)
    code = "import sys; sys.exit('no room in ' + sys.argv[1])"

    with pytest.raises(Failed, match=r"exit 1: .* no room in WORK/out$") as found:
        place.run([sys.executable, "-S", "-c", code, tmp_path / "out"])
    assert str(tmp_path) not in str(found.value)


def test_a_row_that_failed_has_reached_nothing():
    assert table.missed([{"failed": "exit 1"}], Bound()) == ["does not work"]


@pytest.mark.parametrize(
    ("ours", "plain", "other"),
    [
        ([1.0, 200.0], [1.0005, 200.1], False),
        ([1.0, 200.0], [1.0, 201.0], True),
        ([1.0], [1.0, 1.0], True),
        ([0.0], [5e-6], False),
        ([1.0], [], False),
        ([3735928559.0], [3735928559.0 * 1.01], True),
    ],
)
def test_results_are_the_same_within_a_thousandth(ours, plain, other):
    assert table.differ(turn((1.0, 1), (1.0, 1), (ours, plain))) is other


def test_the_table_has_a_line_for_each_row_and_size_that_was_measured():
    row = Row("draw", measured_by_nobody, {"shapes": Bound(time=1.05), "whole": Bound(memory=1.2)})
    found = [
        {"inputs": {"row": "draw", "size": "whole", "turn": 1}, "value": turn((3.0, 5_000_000), (2.0, 0))},
        {"inputs": {"row": "draw", "size": "shapes", "turn": 1}, "value": {"failed": "exit 3"}},
        {"inputs": {"row": "gone", "size": "shapes", "turn": 1}, "value": turn((1.0, 1), (1.0, 1))},
    ]

    assert table.markdown([row], found).splitlines()[2:] == [
        "| draw | shapes | 1 |  |  |  |  |  |  | time ≤ 1.05 | **missed**: does not work |",
        "| draw | whole | 1 | 3.00 | 2.00 | 1.50 | 5 |  |  | memory ≤ 1.2 | met |",
    ]


def measured_by_nobody(place):
    raise AssertionError(place)


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """The bench with one row that only counts; its options beside."""
    asked = []

    def measure(place):
        asked.append(place.name)
        return Side(2.0, 3.0, 10, (1.0,)), Side(1.0, 1.0, 10, (1.0,))

    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    row = Row("draw", measure, {"shapes": Bound(), "whole": Bound()})
    told = speed.options().parse_args(["--work", str(tmp_path), "--sizes", "shapes", "whole"])
    return asked, row, told


def test_only_what_is_missing_is_measured(counted):
    """Three turns of shapes and one of whole; then one more of shapes, by another number of turns."""
    asked, row, told = counted
    speed.walk(told, [row])
    assert asked == ["shapes"] * 3 + ["whole"]
    speed.walk(told, [row])
    assert len(asked) == 4
    told.turns, told.sizes = 4, ["shapes"]
    speed.walk(told, [row])

    assert asked == ["shapes"] * 3 + ["whole", "shapes"]
    assert [cell["inputs"]["turn"] for cell in cells.cells("speed")] == [1, 2, 3, 4, 1]


def test_a_cell_tells_machine_and_versions(counted):
    _, row, told = counted
    speed.walk(told, [row])
    value = cells.cells("speed")[0]["value"]

    assert set(value["machine"]) == {"processor", "cores", "memory"}
    assert set(value["versions"]) == {"torch", "diffusers", "transformers", "peft", "rpo"}
    assert value["rpo"]["cpu"] == 2.0


@pytest.mark.parametrize("count", [2, 3, 5, 9, 17])
def test_the_share_that_is_found_holds_one_prompt_out(count):
    from rpo_cli.text import split_of

    captions = pictures.prompts(count)
    share = float(pictures.held_out(captions))

    assert sum(split_of(caption, share) == "validation" for caption in captions) == 1


@pytest.mark.parametrize(("rows", "most", "size"), [(128, 16, 16), (8, 16, 8), (7, 4, 1), (9, 4, 3)])
def test_a_batch_leaves_none_to_be_filled_up(rows, most, size):
    assert fitting(rows, most) == size


def test_prompts_never_repeat():
    assert len(set(pictures.prompts(500))) == 500


@pytest.mark.parametrize("script", PLAIN, ids=lambda file: file.name)
def test_a_plain_script_is_short_and_knows_nothing_of_rpo(script):
    text = script.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= 80
    assert not re.search(r"^\s*(from|import) rpo_cli", text, re.MULTILINE)


def test_every_row_is_measured_at_a_size_that_there_is():
    names = [row.name for row in speed.ROWS]

    assert len(set(names)) == len(names)
    assert all(row.bounds and row.bounds.keys() <= SIZES.keys() for row in speed.ROWS)


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory):
    """Row → value of a rehearsal of every row, in forks of one process (`warm.py`)."""
    folder = tmp_path_factory.mktemp("speed")
    told = ["--rehearse", "--sizes", "shapes", "--work", folder / "work", "--results", folder / "cells"]
    words = [sys.executable, "-m", "tests.bench.warm", "tests.bench.speed.__main__", *map(str, told)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True)
    lines = (folder / "cells.jsonl").read_text().splitlines()
    return {cell["inputs"]["row"]: cell["value"] for cell in map(json.loads, lines)}


ALONE = {row.name for row in speed.alone.ROWS}
WITHOUT_NUMBERS = {"checkpoint", "memory of the plan"}


@pytest.mark.slow
@pytest.mark.parametrize("row", [row.name for row in speed.ROWS if row.name not in ALONE])
def test_rpo_and_the_plain_script_give_the_same(rehearsed, row):
    value = rehearsed[row]
    assert "failed" not in value, value["failed"]
    if row not in WITHOUT_NUMBERS:
        assert len(value["rpo"]["numbers"]) == len(value["plain"]["numbers"]) > 0
        assert value["rpo"]["numbers"] == pytest.approx(value["plain"]["numbers"], rel=1e-3, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("row", sorted(ALONE))
def test_a_row_of_rpo_alone_is_measured(rehearsed, row):
    value = rehearsed[row]
    if "failed" in value:
        assert row == "generate, SD3 without T5"  # what the table says of it is not this test's
    else:
        assert value["rpo"]["memory"] > 0


def test_a_run_that_rows_start_from_is_made_once(tmp_path):
    place, made = Place(tmp_path, "shapes", REHEARSAL), []

    def make(run):
        made.append(run)
        run.mkdir()

    assert place.base("one", make) == place.base("one", make)
    assert len(made) == 1


def test_a_run_whose_making_was_cut_off_is_made_anew(tmp_path):
    place = Place(tmp_path, "shapes", REHEARSAL)

    def cut_off(run):
        run.mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.base("one", cut_off)

    assert not (tmp_path / "base-one").exists()
    assert place.base("one", Path.mkdir).is_dir()

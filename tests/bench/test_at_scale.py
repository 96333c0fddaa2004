"""The bench of many rows: its table, what it measures of a process, and that its bulk is what is wanted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.at_scale import plugin, processes, table

ROOT = Path(__file__).parents[2]
RPO = str(Path(sys.executable).with_name("rpo"))


def cell(rows, cpu, *, command="status", ended=True):
    used = {"seconds": 2 * cpu, "cpu": cpu, "memory": 5_000_000, "scratch": 0, "files": 7}
    return {"code": "a", "rows": rows, "command": command, "made": rows, "ended": ended, **used}


def test_the_exponent_is_of_the_time_since_the_next_smaller_size():
    """10 times the rows in 100 times the time is rows squared; the smallest size has none."""
    cells = [cell(10, 1.0), cell(1000, 1e5), cell(100, 100.0), cell(100, 5.0, command="report")]

    assert table.exponent(cells[2], cells) == pytest.approx(2.0)
    assert table.exponent(cells[1], cells) == pytest.approx(3.0)
    assert table.exponent(cells[0], cells) is None
    assert table.exponent(cells[3], cells) is None


def test_a_command_that_was_stopped_has_no_rate_and_gives_no_exponent():
    cells = [cell(10, 1.0, ended=False), cell(100, 10.0)]

    assert table.markdown(cells).splitlines()[2:] == [
        "| status | 10 |  | > 2 | 1.0 | 5 | 0 | 7 |  |",
        "| status | 100 | 5 | 20.0 | 10.0 | 5 | 0 | 7 |  |",
    ]


def test_a_new_measurement_takes_the_place_of_the_old_one(tmp_path):
    file = tmp_path / "table.jsonl"
    for found in (cell(10, 1.0), cell(100, 2.0), cell(10, 3.0)):
        table.keep(file, found)

    assert table.read(file) == [cell(10, 3.0), cell(100, 2.0)]


def test_what_a_process_took_is_told_and_one_without_end_is_stopped():
    """Its memory, its scratch file that has no name any more, and the time it was given."""
    code = (
        "import tempfile, time; held = bytearray(80_000_000); file = tempfile.TemporaryFile();"
        "file.write(bytes(1_000_000)); file.flush(); time.sleep(60)"
    )
    used = processes.run([sys.executable, "-c", code], [], limit=1.5)

    assert used.code is None
    assert used.memory > 80_000_000
    assert used.scratch == (1_000_000 if sys.platform == "linux" else 0)


@pytest.mark.slow
def test_rows_in_bulk_are_those_that_the_line_wants(tmp_path):
    """Nothing is missing of the first 38 of 40 pictures, and nothing is there that nobody wants."""
    path = (ROOT, plugin.install(tmp_path / "plugin"))
    words = [str(tmp_path), "40", "38", "8"]
    built = processes.run([sys.executable, "-m", "tests.bench.at_scale.build", *words], path, 100)
    assert built.code == 0, built.said
    environment = {"PATH": "", "PYTHONPATH": ":".join(map(str, path))}
    told = subprocess.run(
        [RPO, "status", str(tmp_path / "run"), "--json"],
        env=environment,
        capture_output=True,
        check=True,
    )

    stages = {stage["stage"]: stage for stage in json.loads(told.stdout)["stages"]}
    assert {name: stage["present"] for name, stage in stages.items()} == {
        "generate": 40,
        "critique": 38,
        "edit": 38,
        "score": 76,
    }
    assert [stage["wanted"] for stage in stages.values()] == [40, 40, 38 + 16, 78]
    assert sum(stage["stale"] for stage in stages.values()) == 0

"""What is printed, where, and in which mode."""

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from rpo_cli.cli import output
from rpo_cli.cli.output import Output


@dataclass(frozen=True)
class Report:
    path: Path
    loss: float
    rejects: dict[str, int]


REPORT = Report(Path("demo"), math.nan, {"black_image": 3})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("a\x00b\x08c\x7fd\x9be", "abcde"),
        ("tab\tand\nline", "tab\tand\nline"),
        ("gnp.\u202efdp", "gnp.fdp"),
        ("красная звезда 赤い星 é", "красная звезда 赤い星 é"),
    ],
)
def test_nothing_printed_can_steer_a_terminal(text, shown):
    assert output.printable(text) == shown


def test_json_is_one_document_whatever_the_data(capsys):
    """NaN becomes null, paths text; a control character stays in the data, escaped."""
    Output("json").result({"report": REPORT, "text": "\x1b[31m é"}, "for people")
    out = capsys.readouterr().out

    assert json.loads(out) == {
        "report": {"path": "demo", "loss": None, "rejects": {"black_image": 3}},
        "text": "\x1b[31m é",
    }
    assert out.isascii()
    assert "\x1b" not in out


def test_each_mode_prints_its_own(capsys):
    printed = {}
    for mode in ("human", "quiet"):
        say = Output(mode)
        say.result(REPORT, "for people", essence="demo/dataset")
        say.hint("try this")
        printed[mode] = capsys.readouterr()

    assert printed["human"] == ("for people\n", "try this\n")
    assert printed["quiet"] == ("demo/dataset\n", "")


def test_a_failure_has_exactly_two_parts(capsys):
    """Further lines of a message stand indented under the first; the hint is one line."""
    output.fail("settings: 2 wrong settings\n  a: no\nb: no\n", "do\nthis")

    assert capsys.readouterr() == (
        "",
        "error: settings: 2 wrong settings\n  a: no\n  b: no\nhint: do this\n",
    )


def test_columns_align_on_what_a_terminal_shows():
    """A wide character takes two places; numbers stand to the right; a line break in a cell is a space."""
    text = output.table(["name", "rows"], [["赤い星", 5], ["a\nb", 12]])

    assert text.splitlines() == ["name    rows", "赤い星     5", "a b       12"]


def test_a_table_is_split_where_the_terminal_ends(monkeypatch):
    """25 columns hold name, a, and one number with its interval; a row without more is not repeated."""
    header = ["name", "a", "mean", "", "gain", ""]
    rows = [["base", 1, "0.5", "[0, 1]", "", ""], ["dpo", 2, "0.7", "[0, 2]", "+0.2", "[0, 1]"]]
    whole = output.table(header, rows, keys=2)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "25")

    assert output.table(header, rows, keys=2).splitlines() == [
        "name  a  mean",
        "base  1  0.5   [0, 1]",
        "dpo   2  0.7   [0, 2]",
        "",
        "name  a  gain",
        "dpo   2  +0.2  [0, 1]",
    ]
    monkeypatch.setenv("COLUMNS", "80")
    assert output.table(header, rows, keys=2) == whole
    assert whole.splitlines()[2] == "dpo   2  0.7   [0, 2]  +0.2  [0, 1]"
    monkeypatch.setenv("COLUMNS", "5")  # too narrow for anything: a column is never left out
    assert "+0.2  [0, 1]" in output.table(header, rows, keys=2)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "unknown"),
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (23_700_000, "23.7 MB"),
        (5e12, "5 TB"),
    ],
)
def test_sizes_read_as_people_say_them(count, text):
    assert output.size(count) == text


def test_a_reader_that_goes_away_is_no_failure():
    """`rpo ... | head -1` ends with exit code 0 and nothing on stderr, though the pipe is closed."""
    script = (
        "import sys\n"
        "from rpo_cli.cli.output import Output\n"
        "for _ in range(5): Output('human').result({}, 'x' * 100_000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.read(10)
    process.stdout.close()
    err = process.stderr.read()

    assert process.wait() == 0
    assert err == ""

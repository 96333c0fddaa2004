"""What `rpo status` says to people."""

import json
import re
from dataclasses import replace

import pytest

from rpo_cli.cli import status
from rpo_cli.cli.output import Output
from rpo_cli.line.status import FOLDERS, RunStatus, StageStatus


@pytest.mark.parametrize(
    ("missing", "rate", "said"),
    [
        (0, 2.0, ""),
        (None, 2.0, ""),
        (10, None, ""),
        (80, 2.0, "40 s"),
        (1440, 2.0, "12 min"),
        (25200, 2.0, "3.5 h"),
    ],
)
def test_time_left_is_told_in_the_unit_that_one_thinks_in(missing, rate, said):
    assert status.left(missing, rate) == said


def test_a_status_fits_a_terminal_of_80_columns(capsys):
    """A run of a hundred thousand rows whose every folder holds something."""
    big = ("score", 123_456, 123_000, 400, {"black_image": 400}, 123_456, 123_000_000_000, None, 1234.0)
    stages = [StageStatus(name, *big[1:]) for name in ("generate", "critique", "edit", "score")]
    disk = dict.fromkeys(FOLDERS, 999000000)
    found = RunStatus(
        "demo", "shapes", 5, stages, 999, "d", ["t"], ["e"], disk, "rpo train demo", [], False
    )
    names = [f"training-{number}" for number in range(20)]
    dropped = dict.fromkeys(("inside_band", "rewards_disagree", "too_different", "counter_won"), 12_345)
    found = replace(found, accepted=5, dropped=dropped, outdated=names, trained=names, audited=names)

    status.print_status(Output("human"), found)
    out = capsys.readouterr().out

    assert max(len(line) for line in out.splitlines()) < 80
    assert "the dataset is older than rows, verdicts or settings" in out
    assert re.search(r"dataset\s999 MB", out)


def test_a_status_ends_with_the_command_to_type(capsys):
    stages = [
        StageStatus("generate", 10, 6, 1, {"black_image": 1}, 2, 1000, None, 0.5),
        StageStatus("critique", None, 3, 0, {}, 0, 0, "/gone: no such model folder"),
    ]
    found = RunStatus("demo", "shapes", 5, stages, 0, None, [], [], {"images": 1000}, "rpo generate demo")
    status.print_status(Output("human"), found)
    out = capsys.readouterr().out

    assert re.search(r"^generate +10 +6 +3 +1 +2 +1 kB +0\.5 +6 s$", out, re.MULTILINE)
    assert "generate rejected: black_image 1\n" in out
    assert "critique: /gone: no such model folder\n" in out
    assert out.splitlines()[-2:] == ["disk: images 1 kB", "next: rpo generate demo"]
    status.print_status(Output("quiet"), found)
    assert capsys.readouterr().out == "rpo generate demo\n"


FUNNEL = RunStatus(
    "demo", "shapes", 5, [], 78, "demo/dataset", ["s0", "s1"], ["first"],
    accepted=42, dropped={"inside_band": 26, "too_far": 10}, outdated=["s1"], audited=["labels"],
)  # fmt: skip


def test_a_status_tells_what_became_of_the_candidates_and_what_is_old(capsys):
    status.print_status(Output("human"), FUNNEL)
    out = capsys.readouterr().out

    assert "pairs: 42 of 78 candidates accepted; dropped: inside_band 26, too_far 10\n" in out
    assert "trained: s0, s1\ntrained on other pairs than the dataset has now: s1\n" in out
    assert "evaluated: first\nlabels judged: labels\n" in out


def test_json_tells_what_was_tidied(capsys):
    status.print_status(Output("json"), FUNNEL, {"pruned": {"images": 3}})
    found = json.loads(capsys.readouterr().out)

    assert (found["pruned"], found["accepted"], found["outdated"]) == ({"images": 3}, 42, ["s1"])

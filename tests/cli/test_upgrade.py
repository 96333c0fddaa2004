"""`rpo upgrade` at the door, and every command before a run.json that it cannot read."""

import json

import pytest

from rpo_cli import open_line
from rpo_cli.records import FORMAT_VERSION

COMMANDS = [
    ["status"],
    ["generate"],
    ["critique"],
    ["edit"],
    ["build-pairs"],
    ["train"],
    ["run"],
    ["eval"],
    ["try", "a red star"],
    ["report"],
    ["export", "jsonl"],
    ["upgrade"],
]


def changed(run, **entries):
    open_line(run).record()
    manifest = {**json.loads((run / "run.json").read_text()), **entries}
    manifest = {name: value for name, value in manifest.items() if value is not None}
    (run / "run.json").write_text(json.dumps(manifest))
    return (run / "run.json").read_bytes()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({"format": 99, "rpo": "9.9"}, "written by a newer rpo (9.9)"),
        ({"groups": ["generate"]}, "groups: expected"),
    ],
    ids=["newer", "hand-edited"],
)
def test_a_run_json_that_cannot_be_read_is_refused_in_two_lines_and_left_alone(
    rpo, tmp_path, command, entries, told
):
    before = changed(tmp_path / "run", **entries)
    done = rpo(command[0], tmp_path / "run", *command[1:])
    assert (done.code, done.out) == (2, "")
    error, hint = done.err.splitlines()
    assert error.startswith("error: ")
    assert told in error
    assert hint.startswith("hint: ")
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert {place.name for place in (tmp_path / "run").iterdir()} <= {"run.json", "logs"}


def test_an_upgrade_says_what_was_kept_and_a_dry_run_changes_nothing(rpo, tmp_path):
    before = changed(tmp_path / "run", format=None)
    plan = rpo("upgrade", tmp_path / "run", "--dry-run")
    assert plan.code == 0
    assert (
        f"format 1 to {FORMAT_VERSION}; kept: no rows, 0 of them under another key; to be made again: none"
        in plan.out
    )
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    (done,) = json.loads(rpo("upgrade", tmp_path / "run", "--json").out)
    assert (done["before"], done["after"], done["rekeyed"], done["again"]) == (1, FORMAT_VERSION, 0, {})
    assert f"is of format {FORMAT_VERSION} already" in rpo("upgrade", tmp_path / "run").out


def test_an_upgrade_of_no_run_is_refused(rpo, tmp_path):
    done = rpo("upgrade", tmp_path / "nothing")
    assert done.code == 2
    assert "no run here" in done.err

"""What counts as a file that a command entered."""

from tests.bench.entered import by_folder, entered, table


def test_a_command_enters_the_files_whose_frames_run() -> None:
    """protocols.py defines classes alone, so nothing of it but class bodies has a frame."""
    found = entered(["list", "engines"])

    assert {"cli/app.py", "cli/list.py", "protocols.py"} <= set(found["entered"])
    assert {"cli/app.py", "cli/list.py"} <= set(found["running"]) <= set(found["entered"])
    assert "protocols.py" not in found["running"]
    assert "cli/run.py" not in found["entered"], "another command's"


def test_files_are_counted_by_folder() -> None:
    found = {"entered": ["cli/a.py", "cli/server/b.py", "c.py"], "running": ["cli/a.py"]}

    assert by_folder(found["entered"]) == {"cli": 2, "": 1}
    assert [line.split() for line in table(found).splitlines()[1:]] == [
        ["(root)", "1", "0"],
        ["cli", "2", "1"],
        ["all", "3", "1"],
    ]

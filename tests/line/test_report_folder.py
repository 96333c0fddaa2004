"""A report appears whole: killed at any moment or on a full disk, the one before it stays."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from rpo_cli.errors import StorageError
from rpo_cli.line.report.build import write_report
from rpo_cli.line.report.folder import DRAFT
from tests.line.test_report import files, make_run

WRITE = "import sys; from rpo_cli.line.report.build import write_report; write_report(sys.argv[1])"


def test_a_full_disk_leaves_the_report_that_was_there(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run")
    write_report(run, shown=4)
    before, written = files(run / "report"), []

    def full(path, data):
        written.append(path)
        if len(written) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return path.open("wb").write(data)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(StorageError, match="the disk is full") as error:
            write_report(run, shown=400)
    assert "free some space" in error.value.hint
    assert files(run / "report") == before
    write_report(run, shown=400)
    assert len(files(run / "report")) > len(before)


def test_what_a_killed_report_has_left_is_cleared_and_never_in_the_way(tmp_path):
    run = make_run(tmp_path / "run")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    left = run / "report" / f"{DRAFT}{dead.pid}"
    left.mkdir(parents=True)
    (left / "index.html").write_text("half")
    write_report(run)

    assert not left.exists()
    assert "half" not in (run / "report" / "index.html").read_text()


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_the_old_report_or_the_new_one_whole(tmp_path):
    """SIGKILL at five moments of its work: a first page is there only with all that it leads to."""
    run = make_run(tmp_path / "run")
    write_report(run, shown=4)
    old = files(run / "report")
    whole = make_run(tmp_path / "other" / "run")
    write_report(whole)
    new, seen = files(whole / "report"), 0
    for turn in range(5):
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(run)])
        while not list((run / "report").glob(f"{DRAFT}{process.pid}")) and process.poll() is None:
            time.sleep(0.002)
        time.sleep(0.03 * turn)
        process.send_signal(signal.SIGKILL)
        process.wait()
        left = {name: data for name, data in files(run / "report").items() if not name.startswith(DRAFT)}
        if "index.html" in left:
            assert left in (old, new) or {**left, **new} == left
            seen += 1
        shutil.rmtree(run / "report")
        write_report(run, shown=4)
        assert files(run / "report") == old
    assert seen > 0

"""Child processes: what they import, say and leave behind; servers: tests/backends/test_vllm_server.py."""

import os
import subprocess
import sys
import time

import pytest

from rpo_cli.children import begin, end, other_environment, own_command, session_of, start_of
from rpo_cli.errors import RpoError, StorageError

STUBBORN = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("up", flush=True)
time.sleep(600)
"""


def python(code):
    return [sys.executable, "-c", code]


def ended(pid):
    until = time.monotonic() + 30
    while (left := session_of(pid)) and time.monotonic() < until:
        time.sleep(0.02)
    return not left


def test_a_child_of_ours_runs_the_function_with_its_words_and_imports_nothing_of_the_folder(
    tmp_path, monkeypatch
):
    (tmp_path / "platform.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "toy.py").write_text(
        "import sys, platform\ndef f(): print(sys.argv[1:], flush=True)"
    )
    child = begin(own_command("toy:f", "one", "two words"), answers=True)

    assert child.line() == b"['one', 'two words']\n"
    end([child])
    assert child.process.returncode == 0


def test_another_python_gets_nothing_that_is_meant_for_this_one(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/here")
    monkeypatch.setenv("PYTHONSTARTUP", "/there")
    monkeypatch.setenv("OTHER", "kept")

    found = other_environment()

    assert found["OTHER"] == "kept"
    assert [name for name in found if name.startswith("PYTHON")] == []


def test_a_child_that_ends_with_its_stdin_is_waited_for_and_what_hangs_is_killed_with_what_it_started():
    good = begin(python("import sys; sys.stdin.read(); sys.exit(7)"), answers=True)
    bad = begin(python(STUBBORN), answers=True)
    assert bad.line() == b"up\n"
    assert len(session_of(bad.process.pid)) == 2

    end([good, bad], grace=2.0)

    assert good.process.returncode == 7
    assert bad.process.returncode == -9
    assert ended(bad.process.pid)
    assert not start_of(bad.process.pid)


@pytest.mark.parametrize(
    ("code", "story"),
    [
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
        ("import sys; print('first'); print('the  last\\tone\\n'); sys.exit(3)", "the last one"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("import sys; sys.stderr.buffer.write(b'caf\\xe9'); sys.exit(1)", "caf\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_an_error_quotes_what_a_child_said_last_or_how_it_ended(tmp_path, code, story):
    child = begin(python(code), tmp_path / "logs" / "child.log")

    assert child.ending() == story
    end([child])


def test_the_last_lines_of_an_open_log_are_told_and_a_line_cut_short_is_none(tmp_path):
    with (tmp_path / "log").open("w+b") as log:
        child = begin(
            python("import sys; print('half', end=''); print('a\\nb\\nc', file=sys.stderr)"),
            log,
            answers=True,
        )
        assert child.line() == b""
        child.process.wait()
        child.write(b"to nobody\n")

        assert child.last_words(2) == "b\nc"
        end([child])


def test_what_cannot_be_started_or_logged_is_told_in_two_lines(tmp_path):
    with pytest.raises(RpoError, match="/no/python: cannot be started: No such file") as missing:
        begin(["/no/python"], hint="check score.python")
    assert missing.value.hint == "check score.python"

    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="log"):
        begin(python("pass"), tmp_path / "file" / "child.log")


def test_an_interrupt_of_the_terminal_does_not_reach_a_child():
    child = begin(python("import sys; sys.stdin.read()"), stdin=subprocess.PIPE)

    assert os.getsid(child.process.pid) == child.process.pid != os.getsid(0)
    end([child])
    assert child.process.returncode == 0

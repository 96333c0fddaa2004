"""Every exception ends as two parts and an exit code."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
import typer

from rpo_cli import installing
from rpo_cli.cli import app
from rpo_cli.errors import MissingDependency, RpoError, StorageError, Terminated, UsageError

CASES = [
    (RpoError("it failed", "do this"), 1, "error: it failed\nhint: do this\n"),
    (UsageError("wrong", "do this"), 2, "error: wrong\nhint: do this\n"),
    (MissingDependency("vllm is missing", "install it"), 3, "error: vllm is missing\nhint: install it\n"),
    (StorageError("disk full", "free some"), 1, "error: disk full\nhint: free some\n"),
    (
        ModuleNotFoundError("gone", name="vllm.engine"),
        3,
        f"error: the package 'vllm' is not installed\nhint: {installing.own_environment()}\n",
    ),
    (
        ModuleNotFoundError("gone", name="ray.data"),
        3,
        f"error: the package 'ray' is not installed\nhint: {installing.extra('ray')}\n",
    ),
    (
        ModuleNotFoundError("gone", name="somelib"),
        3,
        "error: the package 'somelib' is not installed\nhint: pip install somelib\n",
    ),
    (
        typer.BadParameter("Value error, no number."),
        2,
        "error: invalid value: no number\nhint: rpo run --help\n",
    ),
    (Terminated(), 143, f"error: terminated; what was whole is committed\nhint: {app.AGAIN}\n"),
    (ValueError("odd\x1b[31m"), 1, f"error: ValueError: odd\nhint: {app.DEBUG}\n"),
]


@pytest.mark.parametrize(("error", "code", "text"), CASES, ids=lambda value: type(value).__name__)
def test_every_kind_of_failure_has_its_code_and_words(capsys, monkeypatch, error, code, text):
    monkeypatch.delenv("RPO_DEBUG", raising=False)

    assert app.tell(error, "run") == code
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_refusing_disk_is_told_with_its_place_and_what_to_do(capsys, number):
    """The hint is about the disk, not about a bug."""
    assert app.tell(OSError(number, os.strerror(number), "/data/run"), "run") == 1

    told = capsys.readouterr().err
    assert told.startswith(f"error: /data/run: {os.strerror(number)}\nhint: ")
    assert "RPO_DEBUG" not in told


def test_debugging_adds_the_traceback_and_keeps_the_two_parts(rpo, monkeypatch):
    monkeypatch.setattr("rpo_cli.cli.list.names_of", lambda kind: 1 / 0)

    silent = rpo("list")
    monkeypatch.setenv("RPO_DEBUG", "1")
    loud = rpo("list")

    assert silent.err == f"error: ZeroDivisionError: division by zero\nhint: {app.DEBUG}\n"
    assert loud.err.startswith("Traceback (most recent call last)")
    assert loud.err.endswith(silent.err)
    assert silent.code == loud.code == 1


# a stage that never ends and commits on the way out, in the place of the line's own
STUCK = """
import sys, time
from rpo_cli.cli import app
from rpo_cli.line import status

def stuck(path):
    try:
        print("working", flush=True)
        while True:
            time.sleep(0.01)
    finally:
        time.sleep(0.2)
        print("committed", flush=True)

status.status = stuck
sys.argv = ["rpo", "status", "demo"]
app.main()
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_lets_the_stage_commit_and_sets_the_exit_code(number, code):
    """A second SIGTERM during the commit does not break it off."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's `&` has it ignored
    )
    assert process.stdout.readline() == "working\n"

    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM if number == signal.SIGTERM else 0)
    out, err = process.communicate(timeout=300)

    assert process.returncode == code
    assert out == "committed\n"
    assert err.startswith("error: ")
    assert err.endswith(f"hint: {app.AGAIN}\n")


def test_a_signal_that_a_library_turns_into_its_own_error_still_ends_as_terminated(monkeypatch, capsys):
    def stuck(path):
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise RuntimeError("a worker was interrupted") from None

    monkeypatch.setattr("rpo_cli.line.status.status", stuck)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, app._terminate)
    try:
        assert app.call(["status", "demo"]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.startswith("error: terminated")

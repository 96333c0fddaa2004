"""A command of rpo in a process of its own, as a user would type it; it ends when this process does."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rpo_cli.errors import MissingDependency, RpoError, UsageError
from rpo_cli.files import disk_errors

PAUSE = 0.5  # seconds between two looks at a child
GRACE = 20.0  # seconds that a child is given to end by itself
KINDS = {error.exit_code: error for error in (UsageError, MissingDependency)}
# isolated: a child imports what this process would, and nothing of the folder that it is started in
PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from rpo_cli.cli.tethered import main
main()
"""


def run_command(words: Sequence[str], log: Path, watch: Callable[[], object] = lambda: None) -> None:
    """Run `rpo WORDS` to its end; what it says goes to `log`.

    It has a session of its own, so Ctrl-C at the terminal reaches this process alone, which then ends it:
    by closing the pipe that is its stdin, which also happens when this process is killed.

    Args:
        watch: called now and then meanwhile.

    Raises:
        RpoError: it failed; tells its error, and is of its kind.
        StorageError: the log cannot be written.
    """
    with disk_errors(str(log)):
        log.parent.mkdir(parents=True, exist_ok=True)
        out = log.open("wb")
    with out:
        process = subprocess.Popen(
            [sys.executable, "-I", "-c", PROGRAM, json.dumps(sys.path), *words],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        while True:
            try:
                code = process.wait(PAUSE)
                break
            except subprocess.TimeoutExpired:
                watch()
    finally:
        _end(process)
    watch()
    if code:
        raise _failure(code, log)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """A child ends when its stdin does; one that hangs is killed."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _failure(code: int, log: Path) -> RpoError:
    """The error that a child has told as its last, or what it said instead, or the signal."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    begins = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    if not begins or code < 0:
        said = f"signal {-code}" if code < 0 else (lines or [f"exit code {code}"])[-1]
        return RpoError(f"it ended: {said}", f"its output: {log}")
    error = "\n".join(line for line in lines[begins[-1] :] if not line.startswith("hint: "))
    hint = next(
        (line.removeprefix("hint: ") for line in lines[begins[-1] :] if line.startswith("hint: ")), ""
    )
    return KINDS.get(code, RpoError)(error.removeprefix("error: "), f"{hint}; its output: {log}")

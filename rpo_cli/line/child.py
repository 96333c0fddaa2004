"""A command of rpo in a process of its own, as a user would type it; it ends when this process does."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from rpo_cli.children import Child, begin, end, own_command
from rpo_cli.errors import MissingDependency, RpoError, UsageError, disk_errors

PAUSE = 0.5  # seconds between two looks at a child
GRACE = 20.0  # seconds that a child is given to end by itself
KINDS = {error.exit_code: error for error in (UsageError, MissingDependency)}


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
        log.unlink(missing_ok=True)
    child = begin(own_command("rpo_cli.cli.tethered:main", *words), log)
    try:
        while True:
            try:
                code = child.process.wait(PAUSE)
                break
            except subprocess.TimeoutExpired:
                watch()
    finally:
        end([child], GRACE)
    watch()
    if code:
        raise _failure(child, log)


def _failure(child: Child, log: Path) -> RpoError:
    """The error that a child has told as its last, or what it said instead, or the signal."""
    code = child.process.returncode
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    begins = [place for place, line in enumerate(lines) if line.startswith("error: ")]
    if not begins or code < 0:
        return RpoError(f"it ended: {child.ending()}", f"its output: {log}")
    error = "\n".join(line for line in lines[begins[-1] :] if not line.startswith("hint: "))
    hint = next(
        (line.removeprefix("hint: ") for line in lines[begins[-1] :] if line.startswith("hint: ")), ""
    )
    return KINDS.get(code, RpoError)(error.removeprefix("error: "), f"{hint}; its output: {log}")

"""One command in a process of its own, and what it took: time, processor, memory, scratch files."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.1  # seconds between looks at its scratch files
UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of one ru_maxrss


@dataclass(frozen=True)
class Usage:
    """What a command took.

    Attributes:
        seconds, cpu: of the wall and of the processors, children too.
        memory: bytes of the largest of its processes at its largest.
        scratch: bytes of its files in TMPDIR at their largest, those without a name too (Linux only).
        code: its exit status; None: it was stopped after the time that it had.
        said: its last two lines on stderr.
    """

    seconds: float
    cpu: float
    memory: int
    scratch: int
    code: int | None
    said: str


def run(command: Sequence[str], path: Sequence[Path], limit: float, out: str | Path = os.devnull) -> Usage:
    """Run a command with `path` on PYTHONPATH for at most `limit` seconds, its stdout in the file `out`."""
    with (
        tempfile.TemporaryDirectory() as scratch,
        tempfile.TemporaryFile() as told,
        open(out, "wb") as file,
    ):
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "TMPDIR": scratch,
            "OMP_NUM_THREADS": "1",
        }
        started, most, stopped = time.monotonic(), 0, False
        pid = start(command, environment, file.fileno(), told.fileno())
        while True:
            done, status, usage = os.wait4(pid, os.WNOHANG)
            if done:
                break
            most = max(most, scratch_bytes(pid, scratch))
            if not stopped and time.monotonic() - started > limit:
                stopped = True
                os.kill(pid, signal.SIGKILL)
            time.sleep(EVERY)
        seconds = time.monotonic() - started
        code = os.waitstatus_to_exitcode(status)
        told.seek(0)
        said = told.read().decode(errors="replace").strip().splitlines()[-2:]
    cpu = usage.ru_utime + usage.ru_stime
    return Usage(seconds, cpu, usage.ru_maxrss * UNIT, most, None if stopped else code, " ".join(said))


def start(command: Sequence[str], environment: Mapping[str, str], out: int, errors: int) -> int:
    """Begin a process whose end the caller waits for; `out` and `errors` are open files. Its pid."""
    process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
    process.returncode = 0  # so that nobody else waits for it
    return process.pid


def scratch_bytes(pid: int, folder: str) -> int:
    """Bytes of the files under `folder`, and of those without a name that a process has open there."""
    total = 0
    with suppress(OSError):  # a file, or the process, may be gone by now
        total += sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    with suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            place = os.readlink(handle)
            if place.startswith(folder) and place.endswith("(deleted)"):
                total += handle.stat().st_size
    return total

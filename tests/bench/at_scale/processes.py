"""One command in a process of its own, and what it took: time, processor, memory, scratch files."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
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
        process = subprocess.Popen(command, stdout=file, stderr=told, env=environment)
        while True:
            done, status, usage = os.wait4(process.pid, os.WNOHANG)
            if done:
                break
            most = max(most, scratch_bytes(process.pid, scratch))
            if not stopped and time.monotonic() - started > limit:
                stopped = True
                process.kill()
            time.sleep(EVERY)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        said = told.read().decode(errors="replace").strip().splitlines()[-2:]
    code = None if stopped else process.returncode
    cpu = usage.ru_utime + usage.ru_stime
    return Usage(seconds, cpu, usage.ru_maxrss * UNIT, most, code, " ".join(said))


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

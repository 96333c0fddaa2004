"""Processes of the bench: how long they took, how much of the device's memory, when their files came."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.at_scale import processes
from tests.bench.speed.place import Failed
from tests.bench.speed.sizes import ROOT

PYTHON = sys.executable
RPO = (PYTHON, "-c", "from rpo_cli.cli.app import main; main()")
EVERY = 0.05  # seconds between looks at a folder
LOOK = 0.5  # seconds between looks at the device's memory


@dataclass
class Run:
    """What a process took.

    Attributes:
        seconds: on the wall, from its start to its end.
        memory: bytes of the device's memory at their most; without a device those of the process.
        parts: seconds at which each new file of the watched folders came.
        said: its stdout.
    """

    seconds: float = 0.0
    memory: int = 0
    parts: list[float] = field(default_factory=list)
    said: str = ""


def used() -> int | None:
    """Bytes of the first device's memory that are taken; None where no device is."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    words = [tool, "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
    return int(told[0]) << 20 if told and told[0].isdigit() else None


def run(
    words: Sequence[object],
    log: Path,
    limit: float,
    watched: Sequence[Path] = (),
    codes: tuple[int, ...] = (0,),
    more: Mapping[str, str] | None = None,
) -> Run:
    """Run a process for at most `limit` seconds, with `more` in its environment.

    Raises:
        Failed: it did not end, or not as it should.
    """
    paths = os.pathsep.join([str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
    environment = os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", **(more or {})}
    found, seen, before = Run(), set(_files(watched)), used() or 0
    out, told = log.with_suffix(".out"), [str(word) for word in words]
    began = looked = time.monotonic()
    with out.open("wb") as file, log.open("wb") as errors:
        pid = processes.start(told, environment, file.fileno(), errors.fileno())
        while True:
            done, status, usage = os.wait4(pid, os.WNOHANG)
            now = time.monotonic()
            for new in sorted(set(_files(watched)) - seen):
                seen.add(new)
                found.parts.append(now - began)
            if done:
                break
            if now - began > limit:
                os.kill(pid, signal.SIGKILL)
            if now - looked > LOOK:
                looked, taken = now, used()
                found.memory = max(found.memory, (taken or 0) - before)
            time.sleep(EVERY)
    code = os.waitstatus_to_exitcode(status)
    found.seconds = time.monotonic() - began
    found.memory = found.memory or usage.ru_maxrss * processes.UNIT
    found.said = out.read_text(encoding="utf-8", errors="replace")
    if code not in codes:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        raise Failed(f"exit {code} after {found.seconds:.0f} s: {' | '.join(last)[-600:]}")
    return found


def _files(folders: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for folder in folders:
        with suppress(OSError):  # parts are joined while one looks
            found += folder.rglob("part-*.parquet")
    return found

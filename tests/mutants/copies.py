"""Copies of the working tree that may be broken, and pytest run in them. The checkout is only read."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.listed import ROOT, Mutant

SECONDS = 300  # for the tests of one break
TOLD = 3_000  # characters of pytest's last words


@dataclass(frozen=True)
class Result:
    """What became of one break: "caught", "SURVIVED", or "error" with what is wrong with its entry."""

    mutant: Mutant
    verdict: str
    seconds: float
    told: str = ""


@dataclass(frozen=True)
class Copy:
    """A folder with a tree of its own and a place for its tests' files."""

    folder: Path

    @property
    def tree(self) -> Path:
        return self.folder / "tree"

    @classmethod
    def make(cls, folder: Path) -> "Copy":
        """Everything that git tracks or would add, as it stands in the working tree."""
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        copy = cls(folder)
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():  # a tracked file may be deleted and not yet committed
                (copy.tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy.tree / name)
        return copy

    def try_out(self, mutant: Mutant) -> Result:
        """Break one line, run the tests that should notice, mend it."""
        began = time.monotonic()
        path = self.tree / mutant.file
        before = path.read_bytes()
        try:
            changed = mutant.broken(before.decode())
        except ValueError as error:
            return Result(mutant, "error", 0.0, str(error))
        compiled = Path(importlib.util.cache_from_source(str(path)))
        try:
            compiled.unlink(missing_ok=True)  # it is told from another only by size and second
            path.write_text(changed, encoding="utf-8")
            code, told = self.pytest(mutant.tests)
        finally:
            path.write_bytes(before)
            compiled.unlink(missing_ok=True)
        return Result(mutant, _verdict(mutant, code), time.monotonic() - began, told)

    def pytest(self, tests: Sequence[str], seconds: float = SECONDS) -> tuple[int | None, str]:
        """Exit code (None: it took too long and was killed) and last words of pytest on `tests`."""
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider"]
        own = {"PYTHONPATH": str(self.tree), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, f"--basetemp={self.folder / 'tmp'}", *tests],
            cwd=self.tree,
            env={**os.environ, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            told, _ = process.communicate(timeout=seconds)
            return process.returncode, told[-TOLD:]
        except subprocess.TimeoutExpired:
            return None, f"not at its end after {seconds:.0f} s"
        finally:
            _end(process)


def _end(process: "subprocess.Popen[str]") -> None:
    """Kill what is left of pytest, should this process be interrupted or the time be up."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _verdict(mutant: Mutant, code: int | None) -> str:
    """Only tests that failed have noticed: with other codes none was run, so the entry is wrong."""
    if code is None:
        return "caught" if mutant.hangs else "error"
    return {0: "SURVIVED", 1: "caught"}.get(code, "error")

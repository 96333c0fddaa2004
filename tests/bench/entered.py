"""How many files of the package one prompt's walk enters: `python -m tests.bench.entered`.

A file counts as entered when any frame of it but its module's own ran, so class bodies and comprehensions
at import count; the second figure leaves those out. By `sys.setprofile` on every thread of another process.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
WALK = ("--preset", "shapes", "--limit", "4")
PROFILED = """
import inspect, json, os, sys, threading
entered, running = set(), set()

def see(frame, event, value):
    code = frame.f_code
    if "/rpo_cli/" in code.co_filename and code.co_name != "<module>":
        entered.add(code.co_filename)
        if code.co_flags & inspect.CO_OPTIMIZED and not code.co_name.endswith(("comp>", "expr>")):
            running.add(code.co_filename)

threading.setprofile(see)
sys.setprofile(see)
from rpo_cli.cli.app import main
try:
    main()
except SystemExit as end:
    code = end.code
sys.setprofile(None)
with open(os.environ["ENTERED"], "w") as file:
    json.dump({"entered": sorted(entered), "running": sorted(running)}, file)
sys.exit(code)
"""


def entered(words: Iterable[str]) -> dict[str, list[str]]:
    """ "entered" and "running": files below rpo_cli of one command line of `rpo`.

    Raises:
        RuntimeError: the command failed; its last lines.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "entered.json"
        environment = {**os.environ, "ENTERED": str(out), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", PROFILED, *words],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr[-500:])
        found = json.loads(out.read_text())
    package = ROOT / "rpo_cli"
    return {kind: [str(Path(name).relative_to(package)) for name in names] for kind, names in found.items()}


def by_folder(names: Iterable[str]) -> Counter[str]:
    """Files by the folder just below the package; "" is the root."""
    return Counter(name.partition("/")[0] if "/" in name else "" for name in names)


def table(found: dict[str, list[str]]) -> str:
    """A line a folder and one for all: files entered, and those of them of which a function ran."""
    counts = [by_folder(found[kind]) for kind in ("entered", "running")]
    rows = [(folder or "(root)", *(each[folder] for each in counts)) for folder in sorted(counts[0])]
    rows.append(("all", *(each.total() for each in counts)))
    lines = [f"{'folder':12} entered  by a function"]
    return "\n".join(lines + [f"{name:12} {whole:7} {some:14}" for name, whole, some in rows]) + "\n"


def main() -> None:
    """Print the table; with --files every file too, marked where no function of it ran."""
    with tempfile.TemporaryDirectory() as folder:
        found = entered(["run", str(Path(folder) / "run"), *WALK])
    sys.stdout.write(table(found))
    if "--files" in sys.argv:
        for name in found["entered"]:
            sys.stdout.write(f"  {name}{'' if name in found['running'] else '  (at import alone)'}\n")


if __name__ == "__main__":
    main()

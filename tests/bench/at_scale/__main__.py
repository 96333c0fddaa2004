"""Build runs of many rows and time every command on them: `python -m tests.bench.at_scale [--rows N ...]`.

Timings are of the machine at hand; what counts is how they grow, the memory, and the files.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.at_scale import plugin, processes, table

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "tests" / "bench" / "results" / "scale.jsonl"
PYTHON = sys.executable
RPO = str(Path(PYTHON).with_name("rpo"))


@dataclass(frozen=True)
class Timed:
    """A command, of how many rows its rate tells, as a share of the run's pictures, and its exit status."""

    name: str
    words: tuple[str, ...]
    share: float = 1.0
    code: int = 0


BUILDING = 3600.0  # seconds that may take
LEFT = 0.05  # of the pictures have nothing that follows from one
PAIRS = (RPO, "build-pairs", "RUN")
COMMANDS = (
    Timed("status", (RPO, "status", "RUN")),
    Timed("generate, all there", (RPO, "generate", "RUN")),
    Timed("critique, 5 % to make", (RPO, "critique", "RUN"), LEFT),
    Timed("edit, 5 % to make", (RPO, "edit", "RUN"), LEFT),
    Timed("score, 5 % to make", (PYTHON, "-m", "tests.bench.at_scale.score", "RUN"), 2 * LEFT),
    Timed("status, all there", (RPO, "status", "RUN")),
    Timed("build-pairs, first", PAIRS),
    Timed("build-pairs, again", PAIRS),
    Timed("build-pairs, none accepted", (*PAIRS, "--set", "pairs.min_margin=1000"), code=1),
    Timed("build-pairs, another margin", (*PAIRS, "--set", "pairs.min_margin=0.6")),
    Timed("status, pairs there", (RPO, "status", "RUN")),
    Timed("export jsonl", (RPO, "export", "RUN", "jsonl")),
    Timed("report", (RPO, "report", "RUN")),
    Timed("load for train", (PYTHON, "-m", "tests.bench.at_scale.load", "RUN/dataset")),
)


def build(folder: Path, rows: int, per_part: int) -> None:
    """A new run of so many pictures, FOLDER/run."""
    path = (ROOT, plugin.install(folder / "plugin"))
    words = (str(folder), rows, rows - round(rows * LEFT), per_part)
    built = processes.run([PYTHON, "-m", "tests.bench.at_scale.build", *map(str, words)], path, BUILDING)
    if built.code != 0:
        raise SystemExit(f"the run was not built: exit {built.code}: {built.said}")
    say(f"{rows:,} pictures: {files(folder / 'run'):,} files, written in {built.seconds:.0f} s")


def measure(folder: Path, rows: int, limit: float, label: dict[str, Any]) -> None:
    """All commands on such a run, a line of the table each."""
    run, path = folder / "run", (ROOT, folder / "plugin")
    for timed in COMMANDS:
        told = [word.replace("RUN", str(run)) for word in timed.words]
        used = processes.run(told, path, limit)
        cell = {**label, "rows": rows, "command": timed.name, "made": max(1, round(rows * timed.share))}
        found = {name: value for name, value in asdict(used).items() if name not in ("code", "said")}
        found |= {"seconds": round(used.seconds, 2), "cpu": round(used.cpu, 2)}
        table.keep(TABLE, {**cell, **found, "files": files(run), "ended": used.code == timed.code})
        memory = f"{used.memory / 1e6:.0f} MB"
        say(f"  {timed.name}: {used.seconds:.1f} s, {memory}, exit {used.code}: {used.said}")


def files(run: Path) -> int:
    return sum(1 for path in run.rglob("*") if path.is_file())


def code() -> str:
    """The commit that is measured, with + where the working tree differs from it."""
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return told.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument(
        "--per-part", type=int, default=5000, help="rows of a part; the stages join those of 64 as they end"
    )
    parser.add_argument("--limit", type=float, default=1800, help="seconds that a command may take")
    parser.add_argument("--folder", type=Path, help="where the runs are made, each in a folder of its own")
    parser.add_argument("--built", type=Path, help="folder of a run that is there, of the one --rows")
    parser.add_argument("--code", default=None, help="what the table calls the code; default: the commit")
    parser.add_argument(
        "--table", action="store_true", help="print the committed table and measure nothing"
    )
    options = parser.parse_args()
    label = {"code": options.code or code(), "per_part": options.per_part}
    if options.built:
        (rows,) = options.rows
        measure(options.built, rows, options.limit, label)
    for rows in () if options.table or options.built else sorted(options.rows):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            build(Path(folder), rows, options.per_part)
            measure(Path(folder), rows, options.limit, label)
    cells = table.read(TABLE)
    for name in dict.fromkeys(cell["code"] for cell in cells):
        say(f"\n{name}\n\n{table.markdown([cell for cell in cells if cell['code'] == name])}")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

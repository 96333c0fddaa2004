"""rpo beside the shortest script that does the same: `python -m tests.bench.speed [--only ROW ...]`.

Each row and size is measured in turns, rpo and the script one after the other; a turn is a cell of
results/speed.jsonl, and only what is missing is measured. What counts is the processors' time and the
largest process; how long a command takes on the wall is kept and not printed.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import zlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rpo_cli.records import FORMAT_VERSION
from tests.bench import cells, page
from tests.bench.speed import alone, rows, table, trainings
from tests.bench.speed.place import Failed, Place
from tests.bench.speed.sizes import REHEARSAL, ROOT, SIZES

ROWS = (*rows.ROWS, *trainings.ROWS, *alone.ROWS)
LIBRARIES = ("torch", "diffusers", "transformers", "peft")
UNKNOWN = "unknown"


def machine() -> dict[str, Any]:
    """The processor, its cores and the memory."""
    name = platform.processor() or UNKNOWN
    file = Path("/proc/cpuinfo")
    if file.is_file():
        named = [text for text in file.read_text().splitlines() if text.startswith("model name")]
        name = named[0].partition(":")[2].strip() if named else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"processor": name, "cores": os.cpu_count(), "memory": memory}


def versions() -> dict[str, str]:
    """Of the libraries, and the commit, with + where the working tree differs from it."""
    commit, git = "", shutil.which("git")
    if git is not None:
        words = [git, "describe", "--always", "--dirty=+"]
        commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    return {name: version(name) for name in LIBRARIES} | {"rpo": commit or UNKNOWN}


def measured(row: rows.Row, place: Place) -> dict[str, Any]:
    """One turn: both sides, what the machine is, or why it did not work."""
    about = {"machine": machine(), "versions": versions()}
    try:
        ours, plain = row.measure(place)
    except Failed as error:
        return {"failed": str(error), **about}
    return {"rpo": asdict(ours), "plain": asdict(plain), **about}


def walk(told: argparse.Namespace, chosen: list[rows.Row]) -> None:
    """Measure what is missing, the small sizes first."""
    for size in told.sizes:
        what = REHEARSAL if told.rehearse else SIZES[size]
        # runs that rows start from are of one format, and hold so much
        runs = f"runs-{zlib.crc32(repr((what, FORMAT_VERSION)).encode()):08x}"
        place = Place(told.work / size / runs, size, what)
        for row in (row for row in chosen if size in row.bounds or told.rehearse):
            for turn in range(1, (told.turns or place.size.turns) + 1):
                inputs = {"row": row.name, "size": size, "turn": turn}
                name = f"{row.name}, {size}, {turn}"
                known = cells.find(told.results, name, inputs)
                if told.again or known is None or "failed" in known:
                    value = cells.keep(told.results, name, inputs, measured(row, place))
                    sys.stderr.write(f"{name}: {value.get('failed') or sides(value)}\n")


def sides(value: dict[str, Any]) -> str:
    both = ((side, value[side]) for side in ("rpo", "plain"))
    told = (f"{name} {side['cpu']:.1f} s, {side['memory'] / 1e6:,.0f} MB" for name, side in both)
    return "; ".join(told) + ("; results differ" if table.differ(value) else "")


def printed(results: str = "speed") -> str:
    """The table of the committed cells, and the machines that they were measured on."""
    found = cells.cells(results)
    used = sorted({table.machine(cell["value"]) for cell in found})
    return "\n\n".join([table.markdown(ROWS, found), *used])


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [row.name for row in ROWS]
    parser.add_argument("--only", nargs="+", default=names, choices=names, metavar="ROW", help=str(names))
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--turns", type=int, help="of each row; default: 3, 2 and 1 by size")
    parser.add_argument("--work", type=Path, default=Path("bench-speed"), help="folder of models and runs")
    parser.add_argument("--results", default="speed", help="the cells: results/NAME.jsonl")
    parser.add_argument("--again", action="store_true", help="measure what is there too")
    parser.add_argument("--print", action="store_true", help="print the table and measure nothing")
    parser.add_argument(
        "--page", action="store_true", help="write the table into tests/bench/README.md too"
    )
    parser.add_argument("--rehearse", action="store_true", help="every row of a size with next to nothing")
    return parser


def main() -> None:
    told = options().parse_args()
    told.work = told.work.resolve()
    if not told.print:
        walk(told, [row for row in ROWS if row.name in told.only])
    text = printed(told.results)
    sys.stdout.write(f"{text}\n")
    if told.page:
        page.put("speed", text)


if __name__ == "__main__":
    main()

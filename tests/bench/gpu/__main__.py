"""One command for a device that is lent for minutes: `python -m tests.bench.gpu [--minutes 9.5]`.

Weights are drawn at random in the true shapes of models, nothing is fetched. A measure is a line of JSON on
stdout and in --out, there at once, so that a kill leaves what was measured; called again with the same
--out it goes on with what is missing. What would not fit in the minutes that are left is said and left out.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench import page
from tests.bench.gpu import table
from tests.bench.gpu.measures import MEASURES, PEAK, RATIOS, Bench, Line
from tests.bench.speed.__main__ import machine, versions
from tests.bench.speed.place import Failed

# what a measure may end with, so that the others are made
BROKEN = (Failed, OSError, ArithmeticError, LookupError, ValueError, TypeError, AssertionError)


def device_name() -> str:
    """Of the first GPU, as the driver calls it; "cpu" where there is none."""
    import subprocess

    words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        told = subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()
    except FileNotFoundError:
        return "cpu"
    return told[0].strip() if told else "cpu"


def write(file: Path, line: Mapping[str, Any]) -> None:
    """A line, on the disk and on stdout before anything else is done."""
    text = json.dumps(line) + "\n"
    with file.open("a", encoding="utf-8") as out:
        out.write(text)
    sys.stdout.write(text)
    sys.stdout.flush()


def known(file: Path) -> dict[str, Line]:
    """Measure → its line, of those that were measured."""
    return {line["measure"]: line for line in table.read(file) if not {"skipped", "failed"} & line.keys()}


def measure(bench: Bench, out: Path, factor: float) -> None:
    """What is missing, in its order, each ratio as soon as both its measures are there."""
    for one in MEASURES:
        if one.name in bench.lines:
            continue
        line: Line = {"measure": one.name}
        if bench.left() < one.seconds * factor:
            write(out, {**line, "skipped": f"it takes {one.seconds:.0f} s, {bench.left():.0f} are left"})
            continue
        try:
            line |= one.work(bench)
        except BROKEN as error:
            write(out, {**line, "failed": f"{type(error).__name__}: {error}"[:1000]})
            continue
        bench.lines[one.name] = line | ({"goal": dict(one.goal)} if one.goal else {})
        write(out, bench.lines[one.name])
        for ratio in RATIOS:
            if one.name in ratio.over and all(name in bench.lines for name in ratio.over):
                first, second = (bench.lines[name][ratio.value] for name in ratio.over)
                write(out, {"measure": ratio.name, "ratio": first / second, "goal": {"ratio": ratio.goal}})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=9.5, help="that all may take")
    parser.add_argument("--work", type=Path, default=Path("bench-gpu"), help="folder of models and runs")
    parser.add_argument("--out", type=Path, default=Path("bench-gpu.jsonl"), help="where lines are added")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rehearse", action="store_true", help="small shapes, on the CPU")
    parser.add_argument("--print", action="store_true", help="print the table of --out; measure nothing")
    parser.add_argument(
        "--page", action="store_true", help="write the table into tests/bench/README.md too"
    )
    told = parser.parse_args()
    out = told.out.resolve()
    if not told.print:
        end = time.monotonic() + 60 * told.minutes
        device = "cpu" if told.rehearse else told.device
        bench = Bench(
            told.work.resolve(), device, told.rehearse, lambda: end - time.monotonic(), known(out)
        )
        about = {"device": device_name(), **machine(), **versions(), "peak": PEAK}
        write(out, {"measure": "machine", "rehearsed": told.rehearse, **about})
        measure(bench, out, 0.0 if told.rehearse else 1.0)
    text = table.printed(table.read(out))
    sys.stdout.write(f"{text}\n")
    if told.page:
        page.put("gpu", text)


if __name__ == "__main__":
    main()

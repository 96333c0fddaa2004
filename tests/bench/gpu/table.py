"""The lines of `make bench-gpu` as a table; the last line of a measure counts."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Line = dict[str, Any]
HEAD = ("measure", "a second", "MFU", "GB", "s", "goal", "")
RATES = ("pairs_per_second", "pictures_per_second", "critiques_per_second")
GOAL = re.compile(r"(>=|<=) (\S+)")


def read(file: Path) -> list[Line]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def verdict(line: Line) -> str:
    """Whether every goal of the line is met; "" where it has none."""
    goals = line.get("goal", {})
    found = []
    for name, goal in goals.items():
        sign, number = GOAL.fullmatch(goal).groups()
        value = line[name]
        found.append(value >= float(number) if sign == ">=" else value <= float(number))
    return "" if not goals else "met" if all(found) else "**missed**"


def markdown(lines: Sequence[Line]) -> str:
    """A line a measure, in their order; a measure that failed or was left out says why."""
    last = {line["measure"]: line for line in lines if line["measure"] != "machine"}
    rows = [HEAD, ["---", *["---:"] * 4, "---", "---"], *(_row(line) for line in last.values())]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def printed(lines: Sequence[Line]) -> str:
    """The table, and what it was measured on; or that nothing was."""
    machines = [line for line in lines if line["measure"] == "machine" and not line["rehearsed"]]
    if not machines:
        return "**Not measured**: no GPU was there yet."
    last = machines[-1]
    libraries = ", ".join(f"{name} {last[name]}" for name in ("torch", "diffusers", "transformers", "peft"))
    told = f"{last['device']}; {libraries}; rpo at {last['rpo']}; MFU is a share of {last['peak'] / 1e12:g}"
    return f"{markdown(lines)}\n\n{told} TFLOP/s."


def _row(line: Line) -> tuple[str, ...]:
    why = line.get("failed") or line.get("skipped")
    if why:
        kind = "failed" if "failed" in line else "left out"
        return (
            line["measure"],
            "",
            "",
            "",
            "",
            "",
            f"{kind}: {why.splitlines()[0][:120]}".replace("|", "/"),
        )
    rate = next((line[name] for name in RATES if name in line), None)
    value = line.get("ratio", line.get("overhead"))
    shown = f"{rate:.3g}" if rate is not None else "" if value is None else f"{value:.2f}"
    goal = ", ".join(line.get("goal", {}).values())
    return (
        line["measure"],
        shown,
        f"{line['mfu']:.3f}" if line.get("mfu") else "",
        f"{line['memory'] / 1e9:.1f}" if line.get("memory") else "",
        f"{line['seconds']:.0f}" if "seconds" in line else "",
        goal,
        verdict(line),
    )

"""The table of `make bench-speed`: medians over turns, the bound of each row, whether it is met."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from tests.bench.speed.rows import Bound, Row

Turn = Mapping[str, Any]
HEAD = ("row", "size", "turns", "CPU s", "plain", "time", "MB", "plain", "memory", "to reach", "")


def ratio(turns: Sequence[Turn], what: str) -> float | None:
    """The median of rpo's over the script's, turn by turn; None: there is no script."""
    found = [turn["rpo"][what] / turn["plain"][what] for turn in turns if turn["plain"][what]]
    return median(found) if found else None


def said(bound: Bound) -> str:
    parts = [
        "" if bound.time is None else f"time ≤ {bound.time:g}",
        _memory(bound),
        "" if bound.cpu is None else f"≤ {bound.cpu:g} s",
        "" if bound.over is None else f"≤ {bound.over:g} s more",
        "no row nobody asked for" if bound.nothing else "",
    ]
    return ", ".join(part for part in parts if part) or "works"


def _memory(bound: Bound) -> str:
    if bound.memory is None:
        return ""
    return f"memory {bound.least:g} to {bound.memory:g}" if bound.least else f"memory ≤ {bound.memory:g}"


def missed(turns: Sequence[Turn], bound: Bound) -> list[str]:
    """What is not reached, in words; a row that did not work has reached nothing."""
    failed = [turn["failed"] for turn in turns if turn.get("failed")]
    if failed:
        return ["does not work"]
    time, memory = ratio(turns, "cpu"), ratio(turns, "memory")
    cpu = median(turn["rpo"]["cpu"] for turn in turns)
    over = median(turn["rpo"]["cpu"] - turn["plain"]["cpu"] for turn in turns)
    checks = (
        ("time", bound.time is not None and time is not None and time > bound.time),
        ("memory", bound.memory is not None and memory is not None and memory > bound.memory),
        ("memory", bound.least is not None and memory is not None and memory < bound.least),
        ("seconds", bound.cpu is not None and cpu > bound.cpu),
        ("seconds more", bound.over is not None and over > bound.over),
        ("rows nobody asked for", bound.nothing and any(any(turn["rpo"]["numbers"]) for turn in turns)),
    )
    return [name for name, broken in checks if broken]


def differ(turn: Turn, within: float = 1e-3) -> bool:
    """Whether both sides gave other numbers, where both gave some."""
    ours, plain = turn["rpo"]["numbers"], turn["plain"]["numbers"]
    if not ours or not plain:
        return False
    pairs = zip(ours, plain, strict=False)
    near = all(abs(a - b) <= within * max(abs(a), abs(b), 1e-2) for a, b in pairs)
    return len(ours) != len(plain) or not near


def line(row: Row, size: str, turns: Sequence[Turn]) -> tuple[str, ...]:
    bound = row.bounds[size]
    short = missed(turns, bound)
    verdict = f"**missed**: {', '.join(short)}" if short else "met"
    if "does not work" in short:
        return (row.name, size, str(len(turns)), *[""] * 6, said(bound), verdict)
    if any(differ(turn) for turn in turns):
        verdict += "; results differ"

    def middle(side: str, what: str, unit: float, form: str) -> str:
        value = median(turn[side][what] for turn in turns)
        return f"{value / unit:{form}}" if value else ""

    def over(what: str) -> str:
        found = ratio(turns, what)
        return "" if found is None else f"{found:.2f}"

    times = middle("rpo", "cpu", 1, ".2f"), middle("plain", "cpu", 1, ".2f"), over("cpu")
    sizes = middle("rpo", "memory", 1e6, ",.0f"), middle("plain", "memory", 1e6, ",.0f"), over("memory")
    return (row.name, size, str(len(turns)), *times, *sizes, said(bound), verdict)


def markdown(rows: Sequence[Row], cells: Sequence[Mapping[str, Any]]) -> str:
    """A line for each row and size that was measured."""
    lines: list[Sequence[str]] = [HEAD, ["---"] * 3 + ["---:"] * 6 + ["---"] * 2]
    for row in rows:
        for size in row.bounds:
            turns = [
                cell["value"]
                for cell in cells
                if (cell["inputs"]["row"], cell["inputs"]["size"]) == (row.name, size)
            ]
            lines += [line(row, size, turns)] if turns else []
    return "\n".join(f"| {' | '.join(one)} |" for one in lines)


def machine(value: Mapping[str, Any]) -> str:
    """Where a turn was measured, and with which versions, in a line."""
    at, used = value["machine"], dict(value["versions"])
    commit = used.pop("rpo")
    libraries = ", ".join(f"{name} {number}" for name, number in used.items())
    cores, memory = at["cores"], at["memory"] / 2**30
    return f"{at['processor']}, {cores} cores, {memory:.0f} GiB; {libraries}; rpo at {commit}."

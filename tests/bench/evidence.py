"""Base against tuned on held-out prompts: `python -m tests.bench.evidence [--split dev|test] [--work DIR]`.

Computes the cells that are missing in results/evidence.jsonl, then prints the table. Every arm of
evidence.toml is a training set made from the same run of the line.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from rpo_cli.statistics import crossed_bootstrap, crossed_difference
from tests.bench.arms import arm_dataset
from tests.bench.cells import cell, find, flags
from tests.bench.forest import Row, forest
from tests.bench.lines import Table, data_cell, dataset_line, labels, parquet_hash, sampling
from tests.bench.tuned import max_t, measure, tune

PROTOCOL = Path(__file__).parent / "evidence.toml"
PLOT = Path(__file__).parent / "results" / "evidence.svg"
UNIT = "points of fully right pictures more than the base, 95 % interval"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--work", type=Path, default=Path(".train/evidence"))
    parser.add_argument("--protocol", type=Path, default=PROTOCOL)
    parser.add_argument("--arm", action="append", help="Fill the cells of these arms only.")
    parser.add_argument("--seed", type=int, action="append", help="Fill the cells of these seeds only.")
    parser.add_argument("--print", action="store_true", help="Compute nothing: the table of what is there.")
    parser.add_argument("--labels", action="store_true", help="Train nothing: the oracle on the pairs.")
    options = parser.parse_args()
    protocol = tomllib.loads(options.protocol.read_text())
    if options.labels:
        tell_labels(protocol, options.work, options.arm)
        return
    bench = Evidence(protocol, options.work, options.split)
    if not options.print:
        bench.fill(options.arm, options.seed)
    sys.stdout.write(bench.table())
    if options.split == "test" and options.protocol == PROTOCOL and bench.rows():
        PLOT.write_text(bench.plot(), encoding="utf-8")


def tell_labels(protocol: Table, work: Path, names: list[str] | None) -> None:
    """Of each arm: how often the oracle finds the winner better, equal or worse, by kind of pair."""
    data_cell(protocol["data"], work)
    for arm in protocol["arms"]:
        if names is None or arm["name"] in names:
            found = labels(arm_dataset(protocol["data"], work, arm))
            sys.stdout.write(f"{arm['name']}: {json.dumps(found)}\n")


class Evidence:
    """The cells of one protocol on one split."""

    def __init__(self, protocol: Table, work: Path, split: str) -> None:
        self.protocol, self.work, self.split = protocol, work, split
        self.data, self.eval = protocol["data"], {**protocol["eval"], **protocol.get(split, {})}
        line = dataset_line(self.data, work)
        self.shared = {"split": split, "eval": self.eval, "sampling": sampling(line)}

    def fill(self, arms: list[str] | None, seeds: list[int] | None) -> None:
        """Compute what is missing, seed by seed, so that a table of fewer seeds is there early."""
        data_cell(self.data, self.work)
        cell("evidence", f"{self.split}-base", self.shared, lambda: self._measure("base", None))
        for seed in seeds or self.protocol["train"]["seeds"]:
            for arm in self.protocol["arms"]:
                if arms is None or arm["name"] in arms:
                    self._tuned(arm, seed)

    def _inputs(self, arm: Table, seed: int) -> Table:
        data = {"data": self.data, "arm": arm}
        return {**self.shared, **data, "train": self.protocol["train"]["options"], "seed": seed}

    def _tuned(self, arm: Table, seed: int) -> Table:
        name = f"{plain(arm)}-seed-{seed}"

        def compute() -> Table:
            dataset = arm_dataset(self.data, self.work, arm)
            options = {**self.protocol["train"]["options"], **arm.get("train", {}), "train.name": name}
            adapter = tune(self.data, self.work, dataset, options, seed)
            return {
                "pairs": rows_in(dataset),
                "data": parquet_hash(dataset),
                **self._measure(name, adapter),
            }

        return cell("evidence", f"{self.split}-{name}", self._inputs(arm, seed), compute)

    def _measure(self, name: str, adapter: Path | None) -> Table:
        return measure(self.eval, self.work, self.split, name, adapter)

    def table(self) -> str:
        """Markdown: every arm's share of fully right pictures against the base, the best first."""
        base = find("evidence", f"{self.split}-base", self.shared)
        if base is None:
            return "nothing measured yet\n"
        right = flags(base["right"])
        lines = [
            f"evidence version {self.protocol['version']}, {right.size} {self.split} prompts, "
            f"base fully right: {right.mean():.3f}",
            "| arm | pairs | seeds | fully right | difference | 95 % interval | one object | two objects |",
            "|---|---|---|---|---|---|---|---|",
            *(line for _, line in self.rows()),
        ]
        waiting = [name for name, runs in self.runs().items() if not runs]
        lines += [f"not run yet: {'; '.join(waiting)}"] if waiting else []
        return "\n".join([*lines, "", *self.compared()]) + "\n"

    def plot(self) -> str:
        """The table's differences and intervals as a picture (SVG); at least one arm was run."""
        return forest([row for row, _ in self.rows()], UNIT)

    def rows(self) -> list[tuple[Row, str]]:
        """(Row of the plot, line of the table) of every arm that was run, the best first."""
        base = find("evidence", f"{self.split}-base", self.shared)
        rows = [_row(name, base, runs) for name, runs in self.runs().items() if base and runs]
        return sorted(rows, key=lambda row: -row[0].mean)

    def compared(self) -> list[str]:
        """Markdown: points of fully right pictures that one arm has more than another, with p among all."""
        right = {
            name: np.stack([flags(run["right"]) for run in runs])
            for name, runs in self.runs().items()
            if runs
        }
        arms, others = (self.protocol["compare"][key] for key in ("arms", "with"))
        pairs = [
            (arm, other) for arm in arms for other in others if {arm, other} <= {*right} and arm != other
        ]
        chance = dict(zip(pairs, max_t(right, pairs), strict=True)) if pairs else {}
        lines = [f"| points more than | {' | '.join(others)} |", "|---|" + "---|" * len(others)]
        for name in arms:
            if name in right:
                cells = (
                    f"{told_difference(right[name], right[other])}; p {chance[name, other]:.2f}"
                    if (name, other) in chance
                    else ""
                    if name == other
                    else "not run yet"
                    for other in others
                )
                lines.append(f"| {name} | {' | '.join(cells)} |")
        return [*lines, "", f"p: by max-t over these {len(pairs)} comparisons together"] if pairs else lines

    def runs(self) -> dict[str, list[Table]]:
        """Arm → its cells that are there, one a training seed."""
        found: dict[str, list[Table]] = {}
        for arm in self.protocol["arms"]:
            found[arm["name"]] = []
            for seed in self.protocol["train"]["seeds"]:
                name = f"{self.split}-{plain(arm)}-seed-{seed}"
                if run := find("evidence", name, self._inputs(arm, seed)):
                    found[arm["name"]].append(run)
        return found


def plain(arm: Table) -> str:
    """An arm's name as that of a file and of a training."""
    return "-".join(arm["name"].replace(",", "").split())


def _row(name: str, base: Table, runs: list[Table]) -> tuple[Row, str]:
    right, two = flags(base["right"]), flags(base["two_objects"]) > 0
    gain = np.stack([flags(run["right"]) for run in runs]) - right  # (seeds, prompts)
    mean, low, high = (100 * value for value in crossed_bootstrap(gain))
    line = (
        f"| {name} | {runs[0]['pairs']} | {len(runs)} | {(right + gain).mean():.3f} | {mean:+.1f} points "
        f"| {low:+.1f} to {high:+.1f} "
        f"| {100 * gain[:, ~two].mean():+.1f} | {100 * gain[:, two].mean():+.1f} |"
    )
    return Row(name, mean, low, high), line


def told_difference(arm: np.ndarray, other: np.ndarray) -> str:
    if not other.size:
        return "not run yet"
    value, low, high = (100 * number for number in crossed_difference(arm, other))
    return f"{value:+.1f}, {low:+.1f} to {high:+.1f}"


def rows_in(dataset: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in (dataset / "data").glob("*.parquet"))


if __name__ == "__main__":
    main()

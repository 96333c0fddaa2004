"""The offline methods side by side: `python -m tests.bench.methods [--split dev|test] [--work DIR]`.

Computes the cells that are missing in results/methods.jsonl, then prints the table: every method of
the protocol, and dpo on labels by coin, on the dataset of methods.toml.
"""

import argparse
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np

from rpo_cli import open_line
from rpo_cli.line.sweep.checks import ready
from rpo_cli.line.sweep.trainings import train_all
from rpo_cli.line.sweep.variants import Request, trainings, variants
from rpo_cli.statistics import crossed_bootstrap
from tests.bench.arms import arm_dataset
from tests.bench.cells import cell, find, flags
from tests.bench.lines import Table, data_cell, dataset_line, sampling
from tests.bench.tuned import measure

PROTOCOL = Path(__file__).parent / "methods.toml"
RANDOM = "random-labels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--work", type=Path, default=Path(".train/evidence"))
    parser.add_argument("--method", action="append", help="Fill the cells of these methods only.")
    parser.add_argument("--seed", type=int, action="append", help="Fill the cells of these seeds only.")
    parser.add_argument("--print", action="store_true", help="Compute nothing: the table of what is there.")
    options = parser.parse_args()
    protocol = tomllib.loads(PROTOCOL.read_text())
    shared = shared_inputs(protocol, options.work, options.split)
    if not options.print:
        fill(protocol, options.work, shared, options.method, options.seed)
    sys.stdout.write(table(protocol, shared))


def methods(protocol: Table) -> list[str]:
    """dpo on coin labels, then the methods of the protocol."""
    return [RANDOM, *protocol["methods"]]


def shared_inputs(protocol: Table, work: Path, split: str) -> Table:
    line = dataset_line(protocol["data"], work)
    named = {key: protocol[key] for key in ("data", "eval")}
    return {"split": split, "train": protocol["train"]["options"], "sampling": sampling(line), **named}


def fill(
    protocol: Table, work: Path, shared: Table, names: list[str] | None, seeds: list[int] | None
) -> None:
    """Compute what is missing, seed by seed, so that a table of fewer seeds is there early."""
    split, evaluation = shared["split"], protocol["eval"]
    data_cell(protocol["data"], work)
    cell("methods", f"{split}-base", shared, lambda: measure(evaluation, work, split, "methods-base", None))
    for seed in seeds or protocol["train"]["seeds"]:
        places = {
            method: (f"{split}-{method}-{seed}", {**shared, "method": method, "seed": seed})
            for method in names or methods(protocol)
        }
        missing = [method for method, place in places.items() if find("methods", *place) is None]
        for method, adapter in trained(protocol, work, missing, seed).items():
            name, inputs = places[method]
            cell("methods", name, inputs, partial(measure, evaluation, work, split, name, adapter))


def trained(protocol: Table, work: Path, names: list[str], seed: int) -> dict[str, Path]:
    """The adapters of one seed, by a sweep over the methods and another over dpo on coin labels."""
    found: dict[str, Path] = {}
    own = [name for name in names if name != RANDOM]
    if RANDOM in names:
        dataset = arm_dataset(protocol["data"], work, {"name": "coin", "relabel": "coin"})
        found[RANDOM] = swept(protocol, work, dataset, "coin", ["dpo"], seed)["dpo"]
    numbers = protocol["as_measured"]
    if own:
        dataset = arm_dataset(protocol["data"], work, {"name": "all"})
        alike = [name for name in own if name not in numbers]
        found |= swept(protocol, work, dataset, "methods", alike, seed) if alike else {}
        for name in (name for name in own if name in numbers):
            found |= swept(protocol, work, dataset, f"methods-{name}", [name], seed, numbers[name])
    return {name: found[name] for name in names}


def swept(
    protocol: Table,
    work: Path,
    dataset: Path,
    name: str,
    names: list[str],
    seed: int,
    numbers: Table | None = None,
) -> dict[str, Path]:
    """Method → its adapter, trained as `rpo sweep` trains: a process each, what is there is kept."""
    told = {"train.dataset": str(dataset), "run.device": "cpu", "run.threads": 1, **(numbers or {})}
    line = open_line(work / "data", {**protocol["train"]["options"], **told}, create=False)
    asked = Request(methods=tuple(names), options=line.resolved.options("training", earlier=False))
    grid = variants(asked)
    wanted = trainings(name, grid, [seed])
    train_all(line, ready(line, asked, grid), wanted)
    return {each.variant.method: line.store.path("train", each.name, "adapter") for each in wanted}


def table(protocol: Table, shared: Table) -> str:
    """Markdown, the best first."""
    split = shared["split"]
    base = find("methods", f"{split}-base", shared)
    if base is None:
        return "nothing measured yet\n"
    rows, waiting = [], []
    for method in methods(protocol):
        cells = [
            find("methods", f"{split}-{method}-{seed}", {**shared, "method": method, "seed": seed})
            for seed in protocol["train"]["seeds"]
        ]
        runs = [run for run in cells if run is not None]
        rows.append(row(method, base, runs)) if runs else waiting.append(method)
    lines = [
        f"methods version {protocol['version']}, {len(base['right'])} {split} prompts, "
        f"base fully right: {flags(base['right']).mean():.3f}",
        "| method | seeds | fully right | 95 % interval | clip reward | vqascore | drift |",
        "|---|---|---|---|---|---|---|",
        *(text for _, text in sorted(rows, reverse=True)),
    ]
    lines += [f"not run yet: {', '.join(waiting)}"] if waiting else []
    lines += [f"left out: {name} ({why})" for name, why in protocol["left_out"].items()]
    return "\n".join(lines) + "\n"


def row(method: str, base: Table, runs: list[Table]) -> tuple[float, str]:
    """(Mean gain, its line): gains over the base in points, rewards and drift as means over seeds."""
    gain = np.stack([flags(run["right"]) for run in runs]) - flags(base["right"])
    _, low, high = crossed_bootstrap(gain)
    rewards = {
        name: np.mean([run["rewards"][name] for run in runs]) - mean
        for name, mean in base["rewards"].items()
    }
    drift = np.mean([run["drift"] for run in runs])
    text = (
        f"| {method} | {len(runs)} | {100 * gain.mean():+.1f} points "
        f"| {100 * low:+.1f} to {100 * high:+.1f} "
        f"| {rewards['clip']:+.2f} | {rewards['vqascore']:+.3f} | {drift:.3f} |"
    )
    return float(gain.mean()), text


if __name__ == "__main__":
    main()

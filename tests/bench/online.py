"""Online against offline at equal sampled pictures: `python -m tests.bench.online [--split dev|test]`.

Computes the cells that are missing in results/online.jsonl, then prints the table: every arm of
online.toml, and each online arm against the offline arm of its seeds.
"""

import argparse
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli import build_pairs, open_line, run_stage
from rpo_cli.line.rounds.train import train_rounds
from rpo_cli.line.session import Line
from rpo_cli.line.training import fine_tune
from rpo_cli.line.work.generate import live_images
from rpo_cli.records import row_seed
from rpo_cli.statistics import crossed_bootstrap
from tests.bench.cells import cell, find, flags
from tests.bench.lines import Table, prompt_file, sampling
from tests.bench.methods import row
from tests.bench.tuned import measure, tune

PROTOCOL = Path(__file__).parent / "online.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--work", type=Path, default=Path(".train/online"))
    parser.add_argument("--arm", action="append", help="Fill the cells of these arms only.")
    parser.add_argument("--seed", type=int, action="append", help="Fill the cells of these seeds only.")
    parser.add_argument("--print", action="store_true", help="Compute nothing: the table of what is there.")
    options = parser.parse_args()
    protocol = tomllib.loads(PROTOCOL.read_text())
    shared = shared_inputs(protocol, options.work, options.split)
    if not options.print:
        fill(protocol, options.work, shared, options.arm, options.seed)
    sys.stdout.write(table(protocol, shared))


def shared_inputs(protocol: Table, work: Path, split: str) -> Table:
    """What every cell depends on."""
    line = arm_line(protocol, work / "probe", {}, 0)
    rewards = [line.identity(ref.partition("=")[2]).revision for ref in line.settings.score.rewards]
    return {"split": split, "sampling": sampling(line), "rewards": rewards, "eval": protocol["eval"]}


def inputs_of(protocol: Table, shared: Table, arm: Table, seed: int) -> Table:
    pairs = {"steps": protocol["train"]["steps"], "options": protocol["train"]["options"]}
    return {**shared, "data": protocol["data"], "pairs": pairs, "arm": arm, "seed": seed}


def fill(
    protocol: Table, work: Path, shared: Table, names: list[str] | None, seeds: list[int] | None
) -> None:
    """Compute what is missing, seed by seed, so that a table of fewer seeds is there early."""
    split, evaluation = shared["split"], protocol["eval"]
    cell("online", f"{split}-base", shared, lambda: measure(evaluation, work, split, "base", None))
    for seed in seeds or protocol["train"]["seeds"]:
        for arm in protocol["arms"]:
            if names is None or arm["name"] in names:
                cell(
                    "online",
                    cell_name(split, arm, seed),
                    inputs_of(protocol, shared, arm, seed),
                    lambda arm=arm, seed=seed: run(protocol, work, split, arm, seed),
                )


def cell_name(split: str, arm: Table, seed: int) -> str:
    return f"{split}-{arm['name'].replace(' ', '-')}-{seed}"


def run(protocol: Table, work: Path, split: str, arm: Table, seed: int) -> Table:
    """One training, what it made, and how many pictures it had drawn."""
    made = {"offline": offline, "rounds": in_rounds, "trajectories": on_trajectories}[arm["kind"]]
    adapter, sampled = made(protocol, work, arm, seed)
    data = protocol["data"]
    if sampled != data["prompts"] * data["images_per_prompt"] * data["rounds"]:
        raise SystemExit(f"arm {arm['name']}: {sampled} pictures were sampled")
    found = measure(protocol["eval"], work, split, cell_name(split, arm, seed), adapter)
    return found | {"sampled": sampled}


def arm_line(protocol: Table, folder: Path, options: Table, seed: int) -> Line:
    """A run on the prompts of the protocol."""
    data = protocol["data"]
    named = {
        "prompts.file": str(
            prompt_file(folder.parent, data["split"], data["prompts"], data["prompt_seed"])
        ),
        "run.seed": seed,
        "run.threads": 1,
        "generate.images_per_prompt": data["images_per_prompt"],
    }
    return open_line(folder, {**named, **data["options"], **options}, preset="shapes")


def offline(protocol: Table, work: Path, arm: Table, seed: int) -> tuple[Path, int]:
    """Pairs of the base alone, from the start noise that rounds of this seed would have."""
    data, train = protocol["data"], protocol["train"]
    pairs, sampled = [], 0
    for number in range(1, data["rounds"] + 1):
        own = {"pairs.strategy": "seeds", "pairs.min_margin": 1.0}  # as rounds pair, by the same noise
        line = arm_line(protocol, work / f"drawn-{seed}-{number}", own, row_seed(seed, "round", number))
        run_stage(line, "generate")
        run_stage(line, "score")
        build_pairs(line)
        sampled += len(live_images(line))
        files = sorted(line.store.path("dataset", "data").glob("train-*.parquet"))
        pairs += [pq.read_table(file) for file in files]
    folder = work / f"pairs-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    pq.write_table(pa.concat_tables(pairs), folder / "data" / "train-00000.parquet")
    chosen = {**train["options"], **arm["options"], "train.steps": train["steps"]}
    name = {"train.name": f"{arm['name']}-{seed}"}
    options = {**data["options"], **chosen, **name}
    return tune({**data, "run_seed": seed, "options": {}}, work, folder, options, seed), sampled


def in_rounds(protocol: Table, work: Path, arm: Table, seed: int) -> tuple[Path, int]:
    """As many rounds as the offline arms have draws, the steps shared out among them."""
    data, train = protocol["data"], protocol["train"]
    counts = {"train.steps": train["steps"] // data["rounds"], "train.rounds": data["rounds"]}
    options = {**train["options"], **arm["options"], **counts}
    line = arm_line(protocol, folder_of(work, arm, seed), options, seed)
    report = train_rounds(line)
    return report.adapter, data["prompts"] * data["images_per_prompt"] * len(report.rounds)


def on_trajectories(protocol: Table, work: Path, arm: Table, seed: int) -> tuple[Path, int]:
    """As many rounds as the pictures allow; every prompt comes as often as in the other arms."""
    data = protocol["data"]
    rounds = data["prompts"] * data["rounds"] // arm["options"]["online.prompts_per_round"]
    options = {"online.images_per_prompt": data["images_per_prompt"], "train.rounds": rounds}
    line = arm_line(protocol, folder_of(work, arm, seed), {**arm["options"], **options}, seed)
    report = fine_tune(line)
    return report.adapter, report.images


def folder_of(work: Path, arm: Table, seed: int) -> Path:
    return work / f"{arm['name'].replace(' ', '-')}-{seed}"


def table(protocol: Table, shared: Table) -> str:
    """Markdown, the best first."""
    split = shared["split"]
    base = find("online", f"{split}-base", shared)
    if base is None:
        return "nothing measured yet\n"
    data, rows, waiting = protocol["data"], [], []
    for arm in protocol["arms"]:
        runs = runs_of(protocol, shared, arm)
        rows.append(row(arm["name"], base, list(runs.values()))) if runs else waiting.append(arm["name"])
    lines = [
        f"online version {protocol['version']}, {len(base['right'])} {split} prompts, "
        f"{data['prompts'] * data['images_per_prompt'] * data['rounds']} sampled pictures, "
        f"base fully right: {flags(base['right']).mean():.3f}",
        "| arm | seeds | fully right | 95 % interval | clip reward | vqascore | drift |",
        "|---|---|---|---|---|---|---|",
        *(text for _, text in sorted(rows, reverse=True)),
        *against(protocol, shared),
    ]
    lines += [f"not run yet: {', '.join(waiting)}"] if waiting else []
    return "\n".join(lines) + "\n"


def runs_of(protocol: Table, shared: Table, arm: Table) -> dict[int, Table]:
    """The arm's cells that are there, by seed."""
    found = {
        seed: find("online", cell_name(shared["split"], arm, seed), inputs_of(protocol, shared, arm, seed))
        for seed in protocol["train"]["seeds"]
    }
    return {seed: run for seed, run in found.items() if run is not None}


def against(protocol: Table, shared: Table) -> list[str]:
    """PPOD online against every other arm, seed by seed and prompt by prompt."""
    cells = {arm["name"]: runs_of(protocol, shared, arm) for arm in protocol["arms"]}
    lines = []
    for ours in ("ppod in rounds", "ppod-online"):
        for other in cells:
            seeds = sorted(cells[ours].keys() & cells[other].keys())
            if other != ours and seeds:
                sides = [
                    np.stack([flags(cells[n][seed]["right"]) for seed in seeds]) for n in (ours, other)
                ]
                _, low, high = crossed_bootstrap(sides[0] - sides[1])
                gain = (sides[0] - sides[1]).mean()
                told = f"{100 * gain:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
                lines.append(f"{ours} against {other}: {told}, {len(seeds)} seeds")
    return lines


if __name__ == "__main__":
    main()

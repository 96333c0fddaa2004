"""Base against tuned on held-out prompts: `python -m tests.bench.evidence [--split dev|test] [--work DIR]`.

Computes only the cells that are missing in tests/bench/results/evidence/, then prints the table.
"""

import argparse
import hashlib
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rpo_cli import build_pairs, fine_tune, open_line, registry, run_stage
from rpo_cli.line.context import Line
from rpo_cli.line.work import live_images
from rpo_cli.pictures import decode
from rpo_cli.shapes.prompts import prompts
from tests.bench.cells import cell

SIDES = ("jpg_0", "jpg_1")
PROTOCOL = Path(__file__).parent / "evidence.toml"
Table = dict[str, Any]


def prompt_file(work: Path, split: str, count: int, seed: int) -> Path:
    path = work / f"prompts-{split}-{count}-{seed}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(prompts(split, count, seed)) + "\n")
    return path


def dataset_line(protocol: Table, work: Path, adapter: Table | None = None) -> Line:
    """The run whose dataset the adapters are trained on; `adapter` adds the options of one training."""
    data = protocol["data"]
    options = {
        "prompts.file": str(prompt_file(work, data["split"], data["prompts"], data["prompt_seed"])),
        "run.seed": data["run_seed"],
        **data["options"],
        **(adapter or {}),
    }
    return open_line(work / "data", options, preset=protocol["preset"])


def make_dataset(protocol: Table, work: Path) -> Table:
    line = dataset_line(protocol, work)
    for name in ("generate", "critique", "edit", "score"):
        run_stage(line, name)
    report = build_pairs(line)
    digest = hashlib.sha256()
    for file in sorted((work / "data" / "dataset").rglob("*.parquet")):
        digest.update(file.read_bytes())
    return {
        "dataset_sha256": digest.hexdigest(),
        "candidates": report.candidates,
        "accepted": report.accepted,
        "reversed": report.reversed,
        "dropped": report.dropped,
        "labels": labels(work / "data" / "dataset", registry.load("measures", protocol["eval"]["measure"])),
    }


def labels(dataset: Path, oracle: Any) -> Table:
    """How often the oracle finds the winner better, equal or worse than the loser, by kind of pair."""
    counts: dict[str, Counter[str]] = {}
    for file in sorted(dataset.rglob("data/*.parquet")):
        for row in pq.read_table(file).to_pylist():
            shares = [np.mean([*oracle(decode(row[side]), row["caption"]).values()]) for side in SIDES]
            winner, loser = shares if row["label_0"] == 1 else shares[::-1]
            verdict = "better" if winner > loser else "equal" if winner == loser else "worse"
            kind = "reversed edit" if row["reversed"] else row["pair_kind"]
            counts.setdefault(kind, Counter())[verdict] += 1
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}


def measure(protocol: Table, work: Path, split: str, adapter: Path | None, name: str) -> Table:
    """Generate the evaluation prompts (with an adapter) and let the oracle read the pictures."""
    evaluation = protocol["eval"]
    file = prompt_file(work, split, evaluation["prompts"], evaluation["prompt_seed"])
    options = {
        "prompts.file": str(file),
        "run.seed": evaluation["run_seed"],
        "generate.images_per_prompt": 1,
        "generate.lora": str(adapter) if adapter else None,
    }
    line = open_line(work / "eval" / f"{split}-{name}", options, preset=protocol["preset"])
    run_stage(line, "generate")
    oracle = registry.load("measures", evaluation["measure"])
    ids = {row["image_id"]: row["prompt"] for row in live_images(line)}
    rows = sorted(line.store.fetch("images", set(ids)), key=lambda row: row.prompt_id)
    readings = [oracle(decode(row.image.bytes), row.prompt) for row in rows]
    return {
        "right": [int(all(reading.values())) for reading in readings],
        "two_objects": [int("relation" in reading) for reading in readings],
        "attributes": {
            name: float(np.mean([reading[name] for reading in readings if name in reading]))
            for name in sorted({key for reading in readings for key in reading})
        },
    }


def train_and_measure(protocol: Table, work: Path, split: str, seed: int) -> Table:
    options = {**protocol["train"]["options"], "train.seed": seed, "train.name": f"seed-{seed}"}
    report = fine_tune(dataset_line(protocol, work, options))
    return measure(protocol, work, split, Path(report.adapter), f"seed-{seed}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--work", type=Path, default=Path(".train/evidence"))
    parser.add_argument("--protocol", type=Path, default=PROTOCOL)
    parser.add_argument("--only", type=int, action="append", help="Fill these seeds' cells, print nothing.")
    options = parser.parse_args()
    protocol = tomllib.loads(options.protocol.read_text())
    data, shared = data_cell(protocol, options.work), shared_inputs(protocol, options.work, options.split)
    seeds = options.only or protocol["train"]["seeds"]
    tuned = [tuned_cell(protocol, options.work, shared, data, seed) for seed in seeds]
    if not options.only:
        base = base_cell(protocol, options.work, shared)
        sys.stdout.write(layout(protocol, options.split, data, base, tuned))


def data_cell(protocol: Table, work: Path) -> Table:
    """The dataset's counts and hash, for the models and settings as they are."""
    line = dataset_line(protocol, work)
    s = line.settings
    models = {
        "generator": line.identity(str(s.generate.generator)).revision,
        "critic": line.identity(str(s.critique.critic)).revision,
        "editor": line.identity(str(s.edit.editor)).revision,
        "rewards": [line.identity(ref.partition("=")[2]).revision for ref in s.score.rewards],
    }
    settings = s.model_dump(mode="json", include={"generate", "critique", "edit", "pairs"})
    for section, key in (("generate", "generator"), ("critique", "critic"), ("edit", "editor")):
        settings[section].pop(key)  # a path of this machine; the hash stands in `models`
    inputs = {"models": models, "settings": settings, "data": protocol["data"]}
    return cell("evidence", "dataset", inputs, lambda: make_dataset(protocol, work))


def shared_inputs(protocol: Table, work: Path, split: str) -> Table:
    """What every measurement depends on."""
    line = dataset_line(protocol, work)
    generate = line.settings.generate
    generator = line.identity(str(generate.generator)).revision
    sampling = {"steps": generate.steps, "guidance": generate.guidance}
    return {"split": split, "eval": protocol["eval"], "generator": generator, "sampling": sampling}


def base_cell(protocol: Table, work: Path, shared: Table) -> Table:
    split = shared["split"]
    return cell("evidence", f"{split}-base", shared, lambda: measure(protocol, work, split, None, "base"))


def tuned_cell(protocol: Table, work: Path, shared: Table, data: Table, seed: int) -> Table:
    split = shared["split"]
    inputs = {**shared, "train": protocol["train"]["options"], "data": data["dataset_sha256"], "seed": seed}
    name = f"{split}-seed-{seed}"
    return cell("evidence", name, inputs, lambda: train_and_measure(protocol, work, split, seed))


def layout(protocol: Table, split: str, data: Table, base: Table, tuned: list[Table]) -> str:
    right = np.array(base["right"], dtype=float)
    seeds = np.array([run["right"] for run in tuned], dtype=float)  # (seeds, prompts)
    strata = {"all": np.ones_like(right, dtype=bool), "one object": np.array(base["two_objects"]) == 0}
    strata["two objects"] = ~strata["one object"]
    lines = [
        f"evidence v{protocol['version']}, {split} prompts: {right.size}, training seeds: {len(tuned)}, "
        f"pairs: {data['accepted']} ({data['reversed']} reversed) of {data['candidates']} candidates",
        "| prompts | base right | tuned right | difference | 95 % interval |",
        "|---|---|---|---|---|",
    ]
    told = [
        f"{kind} {', '.join(f'{count} {verdict}' for verdict, count in found.items())}"
        for kind, found in data["labels"].items()
    ]
    lines.insert(1, f"winners by the oracle: {'; '.join(told)}")
    for name, mask in strata.items():
        gain = seeds[:, mask] - right[mask]
        low, high = crossed_bootstrap(gain)
        lines.append(
            f"| {name} ({mask.sum()}) | {right[mask].mean():.3f} | {seeds[:, mask].mean():.3f} "
            f"| {100 * gain.mean():+.1f} points | {100 * low:+.1f} to {100 * high:+.1f} |"
        )
    return "\n".join(lines) + "\n"


def crossed_bootstrap(gain: np.ndarray, draws: int = 5_000) -> tuple[float, float]:
    """95 % percentile interval of the mean of a (training seeds, prompts) table.

    Every adapter is measured on the same prompts, so seeds and prompts are crossed, not nested: both are
    drawn with replacement, the same prompts for every drawn seed. This is the wider, safe interval.
    """
    rng = np.random.default_rng(0)
    seeds, prompts = gain.shape
    means = [
        gain[rng.integers(seeds, size=seeds)][:, rng.integers(prompts, size=prompts)].mean()
        for _ in range(draws)
    ]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


if __name__ == "__main__":
    main()

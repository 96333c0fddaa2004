"""The guidance curve: base and tuned at several guidances: `python -m tests.bench.guidance [--work DIR]`.

Computes the cells of guidance.toml that are missing in results/guidance.jsonl, then prints two
tables and draws the curve. A training's one adapter is sampled at every guidance.
"""

import argparse
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rpo_cli.statistics import crossed_bootstrap
from tests.bench import evidence
from tests.bench.arms import arm_dataset
from tests.bench.cells import cell, find, flags
from tests.bench.curve import Point, curve
from tests.bench.lines import Table, dataset_line, made_line, parquet_hash, sampling
from tests.bench.mismatched import mismatched_dataset
from tests.bench.tuned import measure, tune

PROTOCOL = Path(__file__).parent / "guidance.toml"
PLOT = Path(__file__).parent / "results" / "guidance.svg"
Trained = Callable[[], tuple[Path, Path] | None]  # → (adapter, dataset); None: the base
UNIT = "share of pictures fully right by guidance, 95 % interval"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".train/evidence"))
    parser.add_argument("--arm", action="append", help="Fill the cells of these arms only, or of `base`.")
    parser.add_argument("--seed", type=int, action="append", help="Fill the cells of these seeds only.")
    parser.add_argument(
        "--guidance", type=float, action="append", help="Fill the cells of these, in order."
    )
    parser.add_argument(
        "--print", action="store_true", help="Compute nothing: the tables of what is there."
    )
    options = parser.parse_args()
    bench = Guidance(options.work)
    if not options.print:
        bench.fill(options.arm, options.seed, options.guidance)
    sys.stdout.write(bench.table())
    if bench.points():
        PLOT.write_text(curve(bench.points(), UNIT), encoding="utf-8")


class Guidance:
    """The cells of the protocol; data, training options and prompts are the evidence's."""

    def __init__(self, work: Path) -> None:
        self.protocol = tomllib.loads(PROTOCOL.read_text())
        shared = tomllib.loads(evidence.PROTOCOL.read_text())
        self.work, self.split, self.seeds = work, self.protocol["split"], self.protocol["seeds"]
        self.data, self.train = shared["data"], shared["train"]["options"]
        self.eval = {**shared["eval"], **shared.get(self.split, {})}
        self.arms = [arm for arm in shared["arms"] if arm["name"] in self.protocol["arms"]]
        self.mismatched: list[Table] = self.protocol["mismatched"]
        self.guidances: list[float] = self.protocol["guidances"]
        self.of_base: list[float] = [*self.guidances, *self.protocol["base_too"]]
        self.sampling = sampling(dataset_line(self.data, work))

    def fill(self, arms: list[str] | None, seeds: list[int] | None, guidances: list[float] | None) -> None:
        """Compute what is missing: the base first, then arm by arm of one seed."""
        for guidance in self.of_base if arms is None or "base" in arms else ():
            if guidances is None or guidance in guidances:
                self._cell("base", guidance, {}, lambda: None)
        for seed in seeds or self.seeds:
            for arm in [*self.arms, *self.mismatched]:
                if arms is None or arm["name"] in arms:
                    self._fill(arm, seed, guidances)

    def _fill(self, arm: Table, seed: int, guidances: list[float] | None) -> None:
        trained: list[tuple[Path, Path]] = []

        def once() -> tuple[Path, Path]:
            if not trained:
                trained.append(self._trained(arm, seed))
            return trained[0]

        for guidance in guidances or self._guidances(arm):
            if guidance in self._guidances(arm):
                self._cell(_name(arm, seed), guidance, self._inputs(arm, seed), once)

    def _guidances(self, arm: Table) -> list[float]:
        return self.guidances[:1] if arm in self.mismatched else self.guidances

    def _inputs(self, arm: Table, seed: int) -> Table:
        return {"data": self.data, "arm": arm, "train": self.train, "seed": seed}

    def _trained(self, arm: Table, seed: int) -> tuple[Path, Path]:
        """(Adapter, dataset) of an arm's training."""
        made_line(self.data, self.work)
        make = mismatched_dataset if arm in self.mismatched else arm_dataset
        dataset = make(self.data, self.work, arm)
        options = {**self.train, **arm.get("train", {}), "train.name": _name(arm, seed)}
        return tune(self.data, self.work, dataset, options, seed), dataset

    def _key(self, name: str, guidance: float, inputs: Table) -> tuple[str, Table]:
        sampled = {**self.sampling, "guidance": guidance}
        shared = {"split": self.split, "eval": self.eval, "sampling": sampled}
        return f"{self.split}-{name}-at-{guidance:g}", {**shared, **inputs}

    def _cell(self, name: str, guidance: float, inputs: Table, trained: Trained) -> Table:
        def compute() -> Table:
            adapter, dataset = trained() or (None, None)
            evaluation = {**self.eval, "options": {"generate.guidance": guidance}}
            at = f"at-{guidance:g}"
            told = {"pairs": evidence.rows_in(dataset), "data": parquet_hash(dataset)} if dataset else {}
            found = measure(
                evaluation, self.work, self.split, f"{name}-{at}", adapter, base=f"base-{at}", score=False
            )
            return {**told, **found}

        return cell("guidance", *self._key(name, guidance, inputs), compute)

    def right(self, guidance: float, arm: Table | None = None) -> np.ndarray:
        """(training seeds, prompts) 1 where a picture is right, one row for the base; (0, 0): not run."""
        wanted = (
            [(_name(arm, seed), self._inputs(arm, seed)) for seed in self.seeds] if arm else [("base", {})]
        )
        found = [find("guidance", *self._key(name, guidance, inputs)) for name, inputs in wanted]
        runs = [flags(run["right"]) for run in found if run]
        return np.stack(runs) if runs else np.zeros((0, 0))

    def table(self) -> str:
        """Markdown: the base, what each arm has more at the same guidance, and the pairs of no judge."""
        at = self.guidances[0]
        if not self.right(at).size:
            return "nothing measured yet\n"
        first, second = self.protocol["compare"]
        names = [arm["name"] for arm in self.arms]
        lines = [
            f"guidance version {self.protocol['version']}, {self.right(at).size} {self.split} prompts, "
            f"{len(self.seeds)} training seeds",
            f"| guidance | base | base less base at {at:g} | {' | '.join(names)} | {first} less {second} |",
            "|---|---|---|" + "---|" * (len(names) + 1),
            *(self._line(guidance) for guidance in self.of_base if self.right(guidance).size),
            "",
            f"| pairs, guidance {at:g} | pairs | {' | '.join(f'seed {seed}' for seed in self.seeds)} "
            "| both seeds, 95 % interval |",
            "|---|---|" + "---|" * (len(self.seeds) + 1),
            *(self._mismatched(arm) for arm in self.mismatched),
        ]
        return "\n".join(lines) + "\n"

    def _line(self, guidance: float) -> str:
        base, arms = self.right(guidance), {arm["name"]: self.right(guidance, arm) for arm in self.arms}
        more = "" if guidance == self.guidances[0] else _gain(base, self.right(self.guidances[0]))
        first, second = (arms[name] for name in self.protocol["compare"])
        cells = [*(_gain(arm, base) for arm in arms.values()), evidence.told_difference(first, second)]
        cells = cells if guidance in self.guidances else [""] * len(cells)
        return f"| {guidance:g} | {base.mean():.3f} | {more} | {' | '.join(cells)} |"

    def _mismatched(self, arm: Table) -> str:
        base, runs = self.right(self.guidances[0]), self.right(self.guidances[0], arm)
        seeds = [f"{100 * (run - base).mean():+.1f}" for run in runs] or ["not run yet"]
        seeds += [""] * (len(self.seeds) - len(seeds))
        return f"| {arm['name']} | {arm['pairs']} | {' | '.join(seeds)} | {_gain(runs, base)} |"

    def points(self) -> dict[str, list[Point]]:
        """Base and arms → their points, in the order of the guidances."""
        found: dict[str, list[Point]] = {}
        for arm in (None, *self.arms):
            for guidance in self.of_base:
                if (right := self.right(guidance, arm)).size:
                    share = crossed_bootstrap(right)
                    found.setdefault(arm["name"] if arm else "base", []).append(Point(guidance, *share))
        return found


def _name(arm: Table, seed: int) -> str:
    return f"{evidence.plain(arm)}-seed-{seed}"


def _gain(runs: np.ndarray, base: np.ndarray) -> str:
    """Points that (seeds, prompts) has more than the base's one row, and the crossed interval."""
    if not runs.size:
        return "not run"
    mean, low, high = (100 * value for value in crossed_bootstrap(runs - base))
    return f"{mean:+.1f}, {low:+.1f} to {high:+.1f}"


if __name__ == "__main__":
    main()

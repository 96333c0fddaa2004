"""What margin and gates of `build-pairs` are worth, by the oracle: `python -m tests.bench.pairs`.

The candidates of the run that evidence.toml describes are judged again under other thresholds, and with one
gate changed at a time; no model runs. A pair is right when the oracle finds more attributes of the prompt
right in its winner than in its loser, equal when it finds as many, wrong otherwise. One cell, in
results/pairs.jsonl, computed when missing.
"""

import argparse
import sys
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from rpo_cli import build_pairs
from rpo_cli.line.session import Line
from rpo_cli.statistics import bootstrap_ratio
from rpo_cli.visuals.charts import curves
from tests.bench.cells import RESULTS, cell
from tests.bench.evidence import PROTOCOL
from tests.bench.lines import Table, data_inputs, dataset_line, make_dataset, rightness

MARGINS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
KINDS = ("edit", "reversed edit", "seeds")
PLOT = RESULTS / "pairs.svg"
STYLE = (
    "svg{background:#fff}text{font:11px sans-serif}.axis,.line{fill:none;stroke:#000}"
    ".s1{stroke-dasharray:6 3}.s2{stroke-dasharray:2 3}.s3{stroke-dasharray:9 3 2 3}"
)
COLUMNS = ["pair_id", "prompt", "pair_kind", "verdict", "winner", "reason", "a_sha256", "b_sha256"]
# one change of the preset's gates each
GATES: dict[str, Table] = {
    "no margin (min_margin 0)": {"pairs.min_margin": 0.0},
    "no agreement (min_agreement 0)": {"pairs.min_agreement": 0.0},
    "neither": {"pairs.min_margin": 0.0, "pairs.min_agreement": 0.0},
    "any change (min_change 0, max_change 1)": {"pairs.min_change": 0.0, "pairs.max_change": 1.0},
    "reversed edits dropped": {"pairs.keep_reversed": False},
    "pareto selection": {"pairs.selection": "pareto"},
    "win rates, min_margin 0.5": {"pairs.calibration": "win-rate"},
    "clip alone": {"rewards": ("clip",)},
    "vqascore alone": {"rewards": ("vqascore",)},
}


class Won(NamedTuple):
    """An accepted pair: its kind and prompt, the hashes of winner and loser."""

    kind: str
    prompt: str
    winner: str
    loser: str


def accepted(line: Line) -> frozenset[Won]:
    """What build-pairs accepts under the line's settings."""
    build_pairs(line)
    found = set()
    for row in line.store.columns("pairs", COLUMNS).to_pylist():
        if row["verdict"] == "accepted":
            kind = "reversed edit" if row["reason"] == "reversed" else row["pair_kind"]
            sides = (row["a_sha256"], row["b_sha256"])
            found.add(Won(kind, row["prompt"], *(sides if row["winner"] == "a" else sides[::-1])))
    return frozenset(found)


class Truth:
    """The share of its prompt that each picture of a run shows, by the oracle; each is looked at once."""

    def __init__(self, line: Line) -> None:
        self._pictures: dict[str, bytes] = {}
        for table, key in (("images", "image_id"), ("edits", "edit_id")):
            keys = set(line.store.columns(table, [key])[key].to_pylist())
            self._pictures |= {row.sha256: row.image.bytes for row in line.store.fetch(table, keys)}
        self.share = cache(lambda sha256, prompt: rightness(self._pictures[sha256], prompt))

    def lead(self, pair: Won) -> float:
        """Of the winner before the loser, in [-1, 1]."""
        return self.share(pair.winner, pair.prompt) - self.share(pair.loser, pair.prompt)


def counted(leads: Iterable[tuple[str, float]]) -> Table | None:
    """(prompt, lead of the winner) → counts, and the share that is right with a 95 % interval by prompt."""
    by_prompt: dict[str, list[float]] = defaultdict(list)
    for prompt, lead in leads:
        by_prompt[prompt].append(lead)
    if not by_prompt:
        return None
    found = [lead for _, some in sorted(by_prompt.items()) for lead in some]
    right = bootstrap_ratio(
        [sum(lead > 0 for lead in some) for _, some in sorted(by_prompt.items())],
        [len(some) for _, some in sorted(by_prompt.items())],
    )
    return {
        "pairs": len(found),
        "right": sum(lead > 0 for lead in found),
        "equal": sum(lead == 0 for lead in found),
        "wrong": sum(lead < 0 for lead in found),
        "share": right._asdict(),
    }


class Pairs:
    """The table: candidates of one run of the line under other gates."""

    def __init__(self, data: Table, work: Path) -> None:
        self.data, self.work = data, work

    def measured(self) -> Table:
        make_dataset(self.data, self.work)  # what is there of the run is not made again
        preset = dataset_line(self.data, self.work)
        self.truth = Truth(preset)
        usual = accepted(preset)
        return {
            "preset": self._by_kind(usual),
            "margins": {
                str(margin): self._by_kind(self._accepted({"pairs.min_margin": margin}))
                for margin in MARGINS
            },
            "gates": {
                name: {
                    "all": self._counted(found),
                    "gained": self._counted(found - usual),
                    "lost": self._counted(usual - found),
                }
                for name, found in ((name, self._accepted(gate)) for name, gate in GATES.items())
            },
        }

    def _accepted(self, options: Mapping[str, object]) -> frozenset[Won]:
        named = {name: value for name, value in options.items() if name != "rewards"}
        if rewards := options.get("rewards"):
            every = dataset_line(self.data, self.work).settings.score.rewards
            named["score.rewards"] = [one for one in every if one.partition("=")[0] in rewards]
        return accepted(dataset_line(self.data, self.work, named))

    def _by_kind(self, pairs: Iterable[Won]) -> Table:
        every = list(pairs)
        parts = {kind: self._counted(pair for pair in every if pair.kind == kind) for kind in KINDS}
        return {**parts, "all": self._counted(every)}

    def _counted(self, pairs: Iterable[Won]) -> Table | None:
        return counted((pair.prompt, self.truth.lead(pair)) for pair in pairs)


def table(value: Table) -> Iterator[str]:
    """Markdown, by threshold and kind "accepted: share right [interval], wrong ones", then the gates."""
    yield f"| min_margin | {' | '.join(KINDS)} | all |"
    yield "|---|---|---|---|---|"
    for margin, kinds in value["margins"].items():
        yield f"| {float(margin):g} | {' | '.join(_cell(kinds[kind]) for kind in (*KINDS, 'all'))} |"
    yield ""
    yield "| the gates, but | accepted | more: right / equal / wrong | fewer: right / equal / wrong |"
    yield "|---|---|---|---|"
    yield f"| as they are | {_cell(value['preset']['all'])} | | |"
    for name in GATES:
        found = value["gates"][name]
        yield f"| {name} | {_cell(found['all'])} | {_counts(found['gained'])} | {_counts(found['lost'])} |"


def _cell(found: Table | None) -> str:
    if found is None:
        return "0"
    value, low, high = (
        f"{found['share'][name]:.3f}".removeprefix("0") for name in ("value", "low", "high")
    )
    return f"{found['pairs']}: {value} [{low}, {high}], {found['wrong']}"


def _counts(found: Table | None) -> str:
    return f"{found['pairs']}: {found['right']} / {found['equal']} / {found['wrong']}" if found else "0"


def plot(value: Table) -> str:
    """An SVG file of the share that is right by threshold and kind, readable without colour."""
    names = {"edit": "edits", "seeds": "seeds", "all": "all", "reversed edit": "reversed"}
    series = {
        name: [
            (float(margin), kinds[kind]["share"]["value"])
            for margin, kinds in value["margins"].items()
            if kinds[kind] is not None
        ]
        for kind, name in names.items()
    }
    drawn = str(curves(series, title="Share of pairs whose winner is better", unit="min_margin"))
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="540"'
    return drawn.replace("<svg", head, 1).replace("</title>", f"</title><style>{STYLE}</style>", 1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(".train/pairs"))
    options = parser.parse_args()
    data = tomllib.loads(PROTOCOL.read_text())["data"]
    bench = Pairs(data, options.work)
    inputs = {**data_inputs(data, options.work), "margins": MARGINS, "gates": GATES}
    value = cell("pairs", "precision", inputs, bench.measured)
    PLOT.write_text(plot(value))
    sys.stdout.write("\n".join(table(value)) + "\n")


if __name__ == "__main__":
    main()

"""Training sets made from one run of the line: what is kept of its candidates, and who labels them.

An arm is a row of evidence.toml: `options` of build-pairs, `ungated` (no margin, no agreement asked for),
`rewards` (these of the line's rewards only), `relabel`, and `pairs`, how many are kept. What made its
candidates may differ too: see variants.py.
"""

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from rpo_cli import build_pairs
from tests.bench.lines import SIDES, Table, dataset_line, rightness
from tests.bench.variants import origin

UNGATED = {"pairs.min_margin": 0.0, "pairs.min_agreement": 0.0}  # every candidate that moved at all


def arm_dataset(data: Table, work: Path, arm: Table) -> Path:
    """The folder of an arm's pairs (data/train-*.parquet, no validation split), made anew.

    The pairs are those of the training split, ordered by a shuffle with a fixed seed, cut to `pairs`.
    """
    home, sampled = origin(data, work, arm)
    options = {**(UNGATED if arm.get("ungated") else {}), **sampled, **arm.get("options", {})}
    if "rewards" in arm:
        rewards = dataset_line(data, work).settings.score.rewards
        options["score.rewards"] = [one for one in rewards if one.partition("=")[0] in arm["rewards"]]
    build_pairs(dataset_line(data, home, options))
    files = sorted((home / "data" / "dataset" / "data").glob("train-*.parquet"))
    built = pa.concat_tables([pq.read_table(file) for file in files])
    rows = built.to_pylist()
    rows.sort(key=lambda row: row["ranking_id"])
    random.Random(0).shuffle(rows)
    labelled = [row for row in map(RELABEL[arm.get("relabel", "none")], rows) if row is not None]
    if "pairs" in arm and len(labelled) < arm["pairs"]:
        raise SystemExit(f"arm {arm['name']}: {len(labelled)} pairs, the protocol asks for {arm['pairs']}")
    kept = pa.Table.from_pylist(labelled[: arm.get("pairs")], schema=built.schema)
    return write_pairs(work, arm["name"], kept)


def write_pairs(work: Path, name: str, pairs: pa.Table) -> Path:
    """The folder of an arm's dataset, made anew: a training split alone."""
    folder = work / "arms" / name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    pq.write_table(pairs, folder / "data" / "train-00000.parquet")
    return folder


def _labelled(row: Table, first_wins: bool) -> Table:
    return {**row, "label_0": float(first_wins), "label_1": float(not first_wins)}


def by_coin(row: Table) -> Table:
    """A label that tells nothing, the same at every call."""
    return _labelled(row, random.Random(row["ranking_id"]).random() < 0.5)


def by_oracle(row: Table) -> Table | None:
    """The truth; None where the oracle sees no difference."""
    first, second = (rightness(row[side], row["caption"]) for side in SIDES)
    return None if first == second else _labelled(row, first > second)


def edit_wins(row: Table) -> Table:
    """An edit is taken for an improvement, whatever the rewards say."""
    return _labelled(row, row["edited"] == 0)


RELABEL = {"none": lambda row: row, "coin": by_coin, "oracle": by_oracle, "edit": edit_wins}

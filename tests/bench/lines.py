"""The run that a bench trains on, and the pictures that it measures: both through the line itself."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from rpo_cli import build_pairs, open_line, registry, run_stage
from rpo_cli.line.session import Line
from rpo_cli.line.work.generate import live_images
from rpo_cli.pictures import decode
from rpo_cli.shapes.prompts import prompts
from tests.bench.cells import cell

SIDES = ("jpg_0", "jpg_1")
ORACLE = "shapes-oracle"
# the cells were measured before edits had a floor; no cell's name holds this
AS_MEASURED = {"edit.floor_pictures": 0}
Table = dict[str, Any]


def prompt_file(work: Path, split: str, count: int, seed: int) -> Path:
    """A list of prompts of one split, one and two objects in equal shares."""
    path = work / f"prompts-{split}-{count}-{seed}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(prompts(split, count, seed)) + "\n")
    return path


def dataset_line(data: Table, work: Path, options: Table | None = None) -> Line:
    """The run that the table [data] of a protocol describes, with more options, and no others.

    What the data is stays with its run, so what the arm before was told is taken back.
    """
    folder = work / "data"
    named = {
        "prompts.file": str(prompt_file(work, data["split"], data["prompts"], data["prompt_seed"])),
        "run.seed": data["run_seed"],
    }
    told = {**AS_MEASURED, **named, **data["options"], **(options or {})}
    return open_line(folder, told, preset="shapes", unset=["all"])


def data_inputs(data: Table, work: Path) -> Table:
    """What determines the run: its models by hash, and the settings that make its rows."""
    line = dataset_line(data, work)
    s = line.settings
    models = {
        "generator": line.identity(str(s.generate.generator)).revision,
        "critic": line.identity(str(s.critique.critic)).revision,
        "editor": line.identity(str(s.edit.editor)).revision,
        "rewards": [line.identity(ref.partition("=")[2]).revision for ref in s.score.rewards],
    }
    sections = {"generate", "critique", "edit", "pairs"}
    # without defaults, so that a setting added to the program leaves the cells alone
    settings = s.model_dump(mode="json", include=sections, exclude_defaults=True)
    for name in AS_MEASURED:
        section, _, key = name.partition(".")
        settings[section].pop(key, None)
    for section, key in (("generate", "generator"), ("critique", "critic"), ("edit", "editor")):
        settings[section].pop(key)  # a path of this machine; the hash stands in `models`
    return {"models": models, "settings": settings, "data": data}


def data_cell(data: Table, work: Path) -> Table:
    """The dataset's counts and hash, for the models and settings as they are."""
    return cell("evidence", "dataset", data_inputs(data, work), lambda: make_dataset(data, work))


def made_line(data: Table, work: Path) -> Line:
    """The run of [data] with every row that its pairs need; only what is missing is made."""
    line = dataset_line(data, work)
    for name in ("generate", "critique", "edit", "score"):
        run_stage(line, name)
    return line


def make_dataset(data: Table, work: Path) -> Table:
    """Run the line on [data] and tell what came of it."""
    report = build_pairs(made_line(data, work))
    folder = work / "data" / "dataset"
    return {
        "dataset_sha256": parquet_hash(folder),
        "candidates": report.candidates,
        "accepted": report.accepted,
        "reversed": report.reversed,
        "dropped": report.dropped,
        "labels": labels(folder),
    }


def parquet_hash(folder: Path) -> str:
    """Of the bytes of all Parquet files below a folder."""
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.parquet")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def rightness(picture: bytes, prompt: str) -> float:
    """Share of the prompt's attributes that the oracle finds right."""
    oracle = registry.load("measures", ORACLE)
    return float(np.mean([*oracle(decode(picture), prompt).values()]))


def labels(dataset: Path) -> Table:
    """How often the oracle finds the winner better, equal or worse than the loser, by kind of pair."""
    counts: dict[str, Counter[str]] = {}
    for file in sorted(dataset.rglob("data/*.parquet")):
        for row in pq.read_table(file).to_pylist():
            shares = [rightness(row[side], row["caption"]) for side in SIDES]
            winner, loser = shares if row["label_0"] == 1 else shares[::-1]
            verdict = "better" if winner > loser else "equal" if winner == loser else "worse"
            kind = "reversed edit" if row["reversed"] else row["pair_kind"]
            counts.setdefault(kind, Counter())[verdict] += 1
    return {kind: dict(sorted(found.items())) for kind, found in sorted(counts.items())}


def sampling(line: Line) -> Table:
    """What determines a picture beside its prompt and its start noise."""
    generate = line.settings.generate
    return {
        "generator": line.identity(str(generate.generator)).revision,
        "steps": generate.steps,
        "guidance": generate.guidance,
    }


def pictures_of(line: Line) -> list[tuple[str, bytes, dict[str, float]]]:
    """(prompt, PNG, reward → score) of every live picture, in the order of the prompt ids."""
    prompts_by_id = {row["image_id"]: row["prompt"] for row in live_images(line)}
    rows = sorted(line.store.fetch("images", set(prompts_by_id)), key=lambda row: row.prompt_id)
    columns = ["subject_sha256", "prompt_id", "reward", "score"]
    scores: dict[tuple[str, str], dict[str, float]] = {}
    for row in line.store.columns("rewards", columns).to_pylist():
        scores.setdefault((row["subject_sha256"], row["prompt_id"]), {})[row["reward"]] = row["score"]
    return [(row.prompt, row.image.bytes, scores.get((row.sha256, row.prompt_id), {})) for row in rows]

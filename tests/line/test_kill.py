"""A real process on the real models, killed at random moments in every step."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

PRELOAD = ["diffusers", "transformers", "datasets", "peft", "rpo_cli.line.run", "rpo_cli.train.loop"]
KILLS = 20
OPTIONS: dict[str, Any] = {
    "prompts.limit": 4,
    "generate.steps": 3,
    "generate.batch_size": 2,
    "critique.batch_size": 2,
    "edit.steps": 3,
    "edit.batch_size": 2,
    "score.batch_size": 4,
    "pairs.min_margin": 0.0,
    "pairs.min_agreement": 0.0,
    "train.steps": 6,
    "train.save_every": 2,
    "train.global_batch": 2,
    "train.batch_size": 2,
    "run.rows_per_part": 2,
    "run.threads": 1,
}


def walk(path: str) -> None:
    from rpo_cli import open_line, run

    run(open_line(path, OPTIONS, preset="shapes"))


def walker(path: Path) -> Any:
    """A fresh process that walks the line; the libraries are preloaded, so kills meet the work."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=walk, args=(str(path),))
    process.start()
    return process


def outcome(path: Path) -> dict[str, bytes]:
    """Every byte that a user takes out of the run: the dataset and the adapter."""
    folders = (path / "dataset", path / "train")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    # rates stand in the metrics: the one thing that a clock decides
    return {
        str(f.relative_to(path)): f.read_bytes()
        for f in files
        if f.name not in ("metrics.jsonl", "done.json")
    }


def keys(path: Path, table: str, column: str) -> list[str]:
    parts = [part for part in (path / table).rglob("*.parquet") if not part.name.startswith(".")]
    return [key for part in parts for key in pq.read_table(part, columns=[column])[column].to_pylist()]


@pytest.mark.slow
def test_a_line_killed_at_twenty_moments_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    started = time.monotonic()
    process = walker(tmp_path / "undisturbed")
    process.join()
    assert process.exitcode == 0
    whole = time.monotonic() - started
    rng = random.Random(0)

    kills, attempt = 0, 0
    while kills < KILLS:
        attempt += 1
        path = tmp_path / f"killed-{attempt}"
        kills += kill_until_done(path, rng, whole / 4)
        assert outcome(path) == outcome(tmp_path / "undisturbed")

    assert kills >= KILLS


def kill_until_done(path: Path, rng: random.Random, longest: float) -> int:
    """Start, kill, start again, until one walk ends by itself; returns the kills."""
    kills = 0
    while True:
        process = walker(path)
        process.join(timeout=rng.uniform(0.1, longest) * (1 + kills / 8))  # a killed step must end some day
        if process.exitcode is not None:
            assert process.exitcode == 0
            return kills
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        for table, column in (("images", "image_id"), ("critiques", "critique_id"), ("edits", "edit_id")):
            found = keys(path, table, column)
            assert len(found) == len(set(found))

"""An evaluation of a real adapter on the embedded models, killed at random moments."""

import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

PRELOAD = [
    "diffusers",
    "transformers",
    "peft",
    "rpo_cli.line.evaluation.evaluate",
    "rpo_cli.line.evaluation.measurements",
]
OPTIONS: dict[str, Any] = {
    "prompts.limit": 12,
    "generate.steps": 3,
    "generate.batch_size": 4,
    "critique.batch_size": 4,
    "edit.steps": 2,
    "edit.batch_size": 4,
    "score.batch_size": 8,
    "pairs.min_margin": 0.0,
    "pairs.min_agreement": 0.0,
    "pairs.val_fraction": 0.4,
    "train.steps": 3,
    "train.global_batch": 4,
    "train.batch_size": 4,
    "run.rows_per_part": 2,
    "run.threads": 1,
}


def measure(path: str) -> None:
    from rpo_cli import evaluate, open_line

    evaluate(open_line(path), seeds=2, measure="shapes-oracle")


def process(path: Path) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    found = context.Process(target=measure, args=(str(path),))
    found.start()
    return found


@pytest.mark.slow
def test_a_killed_evaluation_ends_with_the_results_of_an_undisturbed_one(tmp_path: Path) -> None:
    from rpo_cli import open_line, run

    path = tmp_path / "run"
    run(open_line(path, OPTIONS, preset="shapes"))
    whole = process(path)
    whole.join()
    assert whole.exitcode == 0
    (path / "eval/default").rename(tmp_path / "undisturbed")
    rng = random.Random(0)

    for kills in range(100):
        tried = process(path)
        tried.join(timeout=rng.uniform(0.2, 2.0) * (1 + kills))
        if tried.exitcode is not None:
            break
        os.kill(tried.pid, signal.SIGKILL)
        tried.join()

    assert (tried.exitcode, kills > 0) == (0, True)
    for name in ("results.json", "pictures.jsonl", "prompts.jsonl"):
        assert (path / "eval/default" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()

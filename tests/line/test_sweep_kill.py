"""A real sweep on the embedded models, killed in the middle of a training, goes on to the same bytes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

DOOR = [sys.executable, "-c", "from rpo_cli.cli.app import main; main()"]
SETTINGS = [
    *("generate.steps=3", "generate.images_per_prompt=2", "pairs.strategy=seeds", "pairs.min_margin=0"),
    *("pairs.min_agreement=0", "pairs.val_fraction=0.4", "run.threads=1"),
]
SWEEP = [
    *("--method", "dpo,sft", "--seeds", "2", "--steps", "3", "--images-per-prompt", "1", "--name", "first"),
    *("--set", "train.validate_every=1", "--set", "train.save_every=1", "--set", "run.threads=1"),
]
CLOCK = {"pairs_per_second", "seconds", "useful_mfu", "hardware_mfu"}


def rpo(*words: str) -> None:
    subprocess.run([*DOOR, *words], check=True, capture_output=True)


def made(run: Path) -> dict[str, bytes]:
    """Every byte of the trainings and of what came of them, but for what a clock or a folder decides."""
    folders = (run / "train", run / "sweep")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {
        str(file.relative_to(run)): b"".join(steps(file))
        if file.name == "metrics.jsonl"
        else file.read_bytes()
        for file in files
        if file.name != "done.json"
    }


def steps(file: Path) -> list[bytes]:
    rows: list[dict[str, Any]] = [json.loads(line) for line in file.read_text().splitlines()]
    return [
        json.dumps({key: value for key, value in row.items() if key not in CLOCK}).encode() for row in rows
    ]


@pytest.mark.slow
def test_a_sweep_killed_in_a_training_ends_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    base, killed = tmp_path / "whole", tmp_path / "killed"
    asked = [word for setting in SETTINGS for word in ("--set", setting)]
    rpo("run", str(base), "--preset", "shapes", "--limit", "16", "--until", "build-pairs", *asked)
    shutil.copytree(base, killed)
    rpo("sweep", str(base), *SWEEP)

    process = subprocess.Popen(
        [*DOOR, "sweep", str(killed), *SWEEP], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    begun = killed / "train" / "first-sft-s0" / "metrics.jsonl"
    until = time.monotonic() + 120
    while not begun.exists() and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    finished = {path.parent.name for path in (killed / "train").glob("*/done.json")}
    assert finished == {"first-dpo-s0"}
    adapter = killed / "train" / "first-dpo-s0" / "adapter" / "pytorch_lora_weights.safetensors"
    written = adapter.stat().st_mtime_ns

    rpo("sweep", str(killed), "--name", "first", "--set", "run.threads=1")

    assert made(killed) == made(base)
    assert adapter.stat().st_mtime_ns == written
    assert len(json.loads((base / "sweep/first/results.json").read_text())["differences"]) == 2

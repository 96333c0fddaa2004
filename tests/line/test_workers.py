"""The line on two worker processes: the rows and bytes of one process, kills included."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from rpo_cli import open_line, registry, run
from rpo_cli.errors import MissingDependency, UsageError

SMALL = {
    "prompts.limit": 6,
    "generate.steps": 2,
    "generate.batch_size": 2,
    "critique.batch_size": 2,
    "edit.batch_size": 2,
    "edit.steps": 2,
    "score.batch_size": 4,
    "pairs.min_margin": 0.0,
    "pairs.min_agreement": 0.0,
    "run.rows_per_part": 2,
    "run.threads": 1,
}
WALK = """
import json, sys
from rpo_cli import open_line, run
run(open_line(sys.argv[1], json.loads(sys.argv[2]), preset="shapes"), until="build-pairs")
"""


def walk(path: Path, **more: int) -> "subprocess.Popen[bytes]":
    options = SMALL | {f"run.{name}": value for name, value in more.items()}
    return subprocess.Popen([sys.executable, "-c", WALK, str(path), json.dumps(options)])


def dataset(path: Path) -> dict[str, bytes]:
    folder = path / "dataset"
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.mark.slow
def test_two_workers_killed_with_their_command_end_with_the_bytes_of_one_process(tmp_path: Path) -> None:
    run(open_line(tmp_path / "one", SMALL, preset="shapes"), until="build-pairs")
    process = walk(tmp_path / "two", workers=2)
    while process.poll() is None and not list((tmp_path / "two" / "critiques").rglob("part-*.parquet")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert walk(tmp_path / "two", workers=2).wait() == 0
    assert dataset(tmp_path / "two") == dataset(tmp_path / "one")


def test_an_engine_that_is_not_installed_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = replace(registry.engines["ray"], needs="no_such_package")
    monkeypatch.setitem(registry.engines, "ray", lacking)
    with pytest.raises(MissingDependency, match="ray needs the package no_such_package") as caught:
        run(open_line(tmp_path / "run", {"run.engine": "ray"}, preset="shapes"))
    assert caught.value.exit_code == 3
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_not_here_is_refused_and_does_not_stay_in_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="'cuda' is not on this machine"):
        run(open_line(tmp_path / "run", {**SMALL, "run.device": "cuda"}, preset="shapes"), until="generate")
    assert open_line(tmp_path / "run").settings.run.device == "auto"

"""Numbers beside metrics.jsonl: TensorBoard's files read back by TensorBoard, and what is not imported."""

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import pytest

from rpo_cli.errors import MissingDependency, Terminated
from rpo_cli.protocols import Silent
from rpo_cli.train import policy


class StopAfter(Silent):
    """An observer that stops the training at one optimiser step."""

    def __init__(self, step: int) -> None:
        self._left, self._training = step, False

    def start(self, stage, total, present) -> None:
        self._training = stage == "train"

    def advance(self, rows, rejects) -> None:
        self._left -= self._training
        if self._left == 0:
            raise Terminated


def shown(folder) -> dict[str, list[tuple[int, float]]]:
    """Every scalar as TensorBoard's own reader gives it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def test_tensorboard_shows_what_metrics_jsonl_says_also_after_a_cut(run_train, tmp_path):
    """Killed after step 3 with the last checkpoint at 2: step 3 is shown once, from the second run."""
    told = {"loggers": ["tensorboard"], "steps": 4, "save_every": 2, "validate_every": 2}
    with pytest.raises(Terminated):
        run_train(observer=StopAfter(3), **told)
    run_train(**told)
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    found = shown(tmp_path / "out" / "tensorboard")
    for split in ("train", "validation"):
        wanted = [(row["step"], row["loss"]) for row in rows if row["split"] == split]
        assert found[f"{split}/loss"] == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in wanted]


def test_a_logger_is_no_part_of_a_training(run_train, tmp_path):
    plain = run_train("plain", steps=1)
    logged = run_train("logged", steps=1, loggers=["tensorboard"])
    for file in plain.adapter.iterdir():
        assert (logged.adapter / file.name).read_bytes() == file.read_bytes()
    assert run_train("plain", steps=1, loggers=["tensorboard"]).skipped


def test_a_missing_library_is_told_at_the_door(run_train, tmp_path, monkeypatch):
    monkeypatch.setattr(policy, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency) as caught:
        run_train(loggers=["wandb", "trackio"], model="/nowhere/that/is/loaded")
    assert caught.value.exit_code == 3
    assert "train.loggers = wandb needs wandb; train.loggers = trackio" in caught.value.message
    assert caught.value.hint == "pip install wandb trackio"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_no_logger_is_imported_unless_it_is_asked_for():
    code = (
        "import sys\nfrom rpo_cli.train import loop\n"
        "print([n for n in ('tensorboard', 'wandb', 'trackio') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_is_told_numbers_and_settings_but_no_path(run_train, tmp_path, name, monkeypatch):
    """With the real library where it is installed; else only that its absence is told."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    try:
        version(name)
    except PackageNotFoundError:
        with pytest.raises(MissingDependency, match=name):
            run_train(loggers=[name])
        return
    run_train(loggers=[name], steps=2)
    written = [p for p in tmp_path.rglob("*") if p.is_file() and name in str(p.relative_to(tmp_path))]
    assert any(b"grad_norm" in path.read_bytes() for path in written)

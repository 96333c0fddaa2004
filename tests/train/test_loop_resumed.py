"""A training that was stopped anywhere, and called again, ends with the bytes of one that was not."""

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from rpo_cli.errors import Terminated, UsageError
from rpo_cli.train.run import claim

KILLS = 20
SETTINGS = {"steps": 12, "global_batch": 4, "batch_size": 2, "rank": 4, "warmup_steps": 3, "flip": True}
SETTINGS |= {
    "learning_rate": 1e-3,
    "caption_dropout": 0.2,
    "save_every": 1,
    "validation_draws": 8,
    "validate_every": 3,
}


class StopAt:
    """An observer that stops the training at one optimiser step."""

    def __init__(self, step: int) -> None:
        self._left = step
        self._training = False
        self.present = 0

    def start(self, stage, total, present) -> None:
        self._training = stage == "train"
        self.present = present

    def advance(self, rows, rejects) -> None:
        self._left -= self._training
        if self._left == 0:
            raise Terminated

    def finish(self) -> None: ...

    def note(self, text) -> None: ...


def result(out: Path) -> dict[str, object]:
    """Everything a training leaves behind, without the clock."""
    files = {path.name: path.read_bytes() for path in sorted((out / "adapter").iterdir())}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("pairs_per_second", None)
    names = sorted(path.name for path in out.iterdir())
    return {**files, "metrics": lines, "done": json.loads((out / "done.json").read_text()), "names": names}


@pytest.mark.parametrize("full", [False, True])
def test_a_training_stopped_at_a_step_ends_with_the_same_bytes(run_train, full):
    settings = {"steps": 5, "save_every": 2, "full": full, "warmup_steps": 3}
    whole = run_train("whole", **settings)
    for stop in (1, 3, 5):
        with pytest.raises(Terminated):
            run_train(f"cut{stop}", observer=StopAt(stop), **settings)
        again = StopAt(-1)
        cut = run_train(f"cut{stop}", observer=again, **settings)
        assert again.present == (stop - 1) // 2 * 2  # told of a step before it is saved
        for file in whole.adapter.iterdir():
            assert (cut.adapter / file.name).read_bytes() == file.read_bytes(), (stop, file.name)
        assert cut.validation_last == whole.validation_last


def begin_anew() -> None:
    """Torch as a new process has it: the exception may have come while a context of its ended."""
    torch.set_grad_enabled(True)
    while torch._C._len_torch_function_stack():
        torch._C._pop_torch_function_stack()


def test_terminations_between_any_two_lines_lose_nothing(run_train, tmp_path):
    settings = {**SETTINGS, "steps": 6}
    run_train("whole", **settings)

    def terminate(signum, frame):
        fired.append(signum)
        raise Terminated

    previous = signal.signal(signal.SIGALRM, terminate)
    generator = random.Random(0)
    stopped = 0
    try:
        for _ in range(8):
            fired = []
            signal.setitimer(signal.ITIMER_REAL, generator.uniform(0.01, 0.4))
            try:
                run_train("cut", cache=tmp_path / "cache", **settings)
            except (Exception, Terminated):
                if not fired:
                    raise
                stopped += 1  # a C extension may turn the signal's exception into an error of its own
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                begin_anew()
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert stopped > 0
    run_train("cut", cache=tmp_path / "cache", **settings)
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


@pytest.mark.slow
def test_a_training_killed_at_twenty_random_moments_ends_with_the_same_bytes(
    victim, model, dataset, tmp_path
):
    job = {
        "settings": SETTINGS,
        "dataset": str(dataset),
        "model": str(model),
        "revision": None,
        "model_identity": "m",
        "seed": 0,
        "device": "cpu",
        "threads": 1,
    }
    whole = job | {"out": str(tmp_path / "whole"), "cache": str(tmp_path / "cache")}
    victim.start(whole)  # returns when the imports are done
    began = time.monotonic()
    assert victim.wait() == 0
    seconds = time.monotonic() - began
    expected = result(tmp_path / "whole")

    generator = random.Random(0)
    killed, attempt, finished = 0, 0, []
    while killed < KILLS:
        # a fresh training with a fresh cache whenever one got to its end in spite of the kills
        out, cache = tmp_path / f"cut{attempt}", tmp_path / f"cache{attempt}"
        pid = victim.start(job | {"out": str(out), "cache": str(cache)})
        time.sleep(generator.uniform(0, seconds / 2))
        with contextlib.suppress(ProcessLookupError):  # it came to its end
            os.kill(pid, signal.SIGKILL)
        if victim.wait() == -signal.SIGKILL:
            killed += 1
        else:
            finished.append(out)
            attempt += 1
    victim.start(job | {"out": str(out), "cache": str(cache)})
    assert victim.wait() == 0
    for end in {*finished, out}:
        assert result(end) == expected


def test_a_checkpoint_is_never_taken_up_by_a_training_of_other_settings(tmp_path):
    """Before its first checkpoint there is nothing to lose, and the name is free."""
    claim(tmp_path, {"steps": 5}, "mine")
    claim(tmp_path, {"steps": 7}, "mine")
    (tmp_path / "checkpoint-00000001.safetensors").write_bytes(b"")

    with pytest.raises(UsageError, match="training 'mine' was made with other settings: steps 7 → 5"):
        claim(tmp_path, {"steps": 5}, "mine")

    claim(tmp_path, {"steps": 7}, "mine")

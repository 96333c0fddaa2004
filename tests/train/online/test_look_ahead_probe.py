"""`rpo train --probe K` of methods on trajectories: batches of the training, timed and thrown away."""

import json

import pytest

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import Terminated, UsageError
from rpo_cli.train.composition import OnlineInputs, Rewards
from rpo_cli.train.online import loop
from rpo_cli.train.online.look_ahead import probe_online

PROMPTS = [("p0", "a red thing"), ("p1", "a blue thing"), ("p2", "a dog"), ("p3", "a cat")]
SMALL = {
    "rounds": 3,
    "global_batch": 2,
    "batch_size": 4,
    "rank": 4,
    "warmup_steps": 0,
    "learning_rate": 1e-3,
}
SAMPLING = {"steps": 4, "guidance": 2.0, "images_per_prompt": 2, "prompts_per_round": 3, "baseline_size": 2}


class ByPlace:
    """A reward by place, so that no prompt's pictures are equal."""

    def setup(self) -> None: ...

    def score(self, prompts, images):
        return [0.5 + index / 10 for index, _ in enumerate(images)]


REWARDS = Rewards({"place": "1"}, lambda device: {"place": ByPlace()}, 4)


@pytest.fixture
def run_probe(model, tmp_path):
    def call(batches, method="ddpo", **sampling):
        where = {"model": str(model), "revision": None, "model_identity": str(model), "seed": 0}
        where |= {"out": tmp_path / "out", "device": "cpu", "threads": 1}
        settings, online = TrainSettings(method=method, **SMALL), OnlineSettings(**{**SAMPLING, **sampling})
        inputs = OnlineInputs(settings, online, prompts=PROMPTS, rewards=REWARDS, **where)
        return probe_online(inputs, batches)

    return call


@pytest.mark.parametrize(("method", "used"), [("ddpo", 6), ("ppod-online", 6)])
def test_it_times_whole_batches_and_leaves_nothing(run_probe, tmp_path, method, used):
    """Rounds of 3 prompts x 2 pictures, each used twice; a pair needs both pictures of its prompt."""
    found = run_probe(2, method, inner_epochs=2, min_margin=None if method == "ddpo" else 100.0)
    assert (found.method, found.pictures, found.remaining) == (method, 8, 3)
    seconds = 6 * found.drawing + 2 * used * found.learning
    assert found.remaining_hours == pytest.approx(3 * seconds / 3600)
    assert found.learning > 0
    assert not (tmp_path / "out").exists()


def test_rounds_that_a_checkpoint_holds_do_not_remain_and_stay_as_they_are(
    run_probe, run_online, tmp_path, monkeypatch
):
    commit = loop.commit

    def cut(inputs, policy, state):
        commit(inputs, policy, state)
        raise Terminated

    monkeypatch.setattr(loop, "commit", cut)
    with pytest.raises(Terminated):
        run_online(rewards=REWARDS, **SMALL, **SAMPLING)
    monkeypatch.undo()
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert run_probe(1).remaining == 2
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert json.loads(before["metrics.jsonl"].splitlines()[-1])["step"] == 1


def test_one_process_is_timed(run_probe, monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--probe times one process"):
        run_probe(1)

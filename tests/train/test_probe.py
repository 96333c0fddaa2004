"""`rpo train --probe K`: steps of the training itself, timed, of which nothing is left."""

import pytest

from rpo_cli.config import TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train import loop as loop_module
from rpo_cli.train.composition import TrainInputs
from rpo_cli.train.look_ahead import probe as probe_module
from rpo_cli.train.look_ahead.probe import probe

SMALL = {"steps": 4, "global_batch": 4, "batch_size": 4, "rank": 4, "warmup_steps": 0}


@pytest.fixture
def run_probe(model, dataset, shared_cache, tmp_path):
    def call(steps, **settings):
        where = {"dataset": dataset, "model": str(model), "revision": None, "model_identity": str(model)}
        where |= {"out": tmp_path / "out", "cache": shared_cache, "seed": 0, "device": "cpu", "threads": 1}
        return probe(TrainInputs(TrainSettings(**{**SMALL, **settings}), **where), steps)

    return call


def test_it_times_the_steps_that_were_asked_for_and_leaves_nothing(run_probe, tmp_path, monkeypatch):
    made, step = [], probe_module.train_step
    monkeypatch.setattr(probe_module, "train_step", lambda *given: made.append(1) or step(*given))
    found = run_probe(2)
    assert len(made) == 3  # the first warms up
    assert (found.method, found.steps, found.remaining) == ("dpo", 2, 4)
    assert found.pairs_per_second == pytest.approx(8 / found.seconds)
    assert found.remaining_hours == pytest.approx(4 * found.seconds / 2 / 3600)
    assert not (tmp_path / "out").exists()


def test_what_a_checkpoint_holds_does_not_remain_and_stays_as_it_is(run_probe, run_train, monkeypatch):
    step = loop_module.timed_step

    def cut(job, state, observer):
        if state.step == 3:
            raise KeyboardInterrupt
        return step(job, state, observer)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "timed_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_train(save_every=1)
    whole = run_train("whole", save_every=1)
    out = whole.adapter.parent.with_name("out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert run_probe(3, learning_rate=1e-3).remaining == 1  # steps beyond the last one are steps too
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    file = "pytorch_lora_weights.safetensors"
    assert (run_train(save_every=1).adapter / file).read_bytes() == (whole.adapter / file).read_bytes()


def test_one_process_is_timed(run_probe):
    with pytest.raises(UsageError, match="--probe times one process"):
        run_probe(1, processes=2)

"""Kept reference errors: the same training with fewer forward passes, and never another reference's."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from rpo_cli import registry
from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError, SettingsError, Terminated
from rpo_cli.train import loop as loop_module
from rpo_cli.train.data.pairs import TrainingPair
from rpo_cli.train.item_errors import fingerprint
from rpo_cli.train.noise import DrawSettings, fixed_draw, training_draw
from rpo_cli.train.objectives.presets import DPO

LONG = {"steps": 8, "global_batch": 5, "batch_size": 5}  # 4 epochs of the 10 pairs


@pytest.fixture
def reference_passes(monkeypatch):
    """Counts the times that the reference was called."""
    counted = []
    build = loop_module.build_policy

    def watched(*given):
        policy = build(*given)
        reference = policy.reference
        object.__setattr__(policy, "reference", lambda: counted.append(1) or reference())
        return policy

    monkeypatch.setattr(loop_module, "build_policy", watched)
    return counted


class StopAt:
    """An observer that stops the training at one optimiser step."""

    def __init__(self, step: int) -> None:
        self._left, self._training = step, False

    def start(self, stage, total, present) -> None:
        self._training = stage == "train"

    def advance(self, rows, rejects) -> None:
        self._left -= self._training
        if self._left == 0:
            raise Terminated

    def finish(self) -> None: ...

    def note(self, text) -> None: ...


def rows(folder) -> list[dict]:
    """Without the clock, and without the KL, which is measured where both models run."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    left_out = ("pairs_per_second", "kl")
    return [{name: value for name, value in row.items() if name not in left_out} for row in found]


def adapter(report) -> bytes:
    return (report.adapter / "pytorch_lora_weights.safetensors").read_bytes()


def test_a_pairs_draws_come_again_after_k_epochs_and_are_the_same_at_any_place():
    settings = DrawSettings(0, 6, 1000, (4, 8, 8), flip=True, caption_dropout=0.5, uses=2)
    seen: dict[tuple, list] = {}
    for step in range(12):
        for place in range(3):
            draw = training_draw(settings, step, place, 3)
            seen.setdefault((draw.pair, draw.use), []).append(draw)
    assert sorted(seen) == [(pair, use) for pair in range(6) for use in (0, 1)]
    for (pair, use), draws in seen.items():
        alone = fixed_draw(settings, pair, use)
        assert len(draws) == 3
        for draw in draws:
            assert (draw.timestep, draw.flip, draw.drop_caption) == (
                alone.timestep,
                alone.flip,
                alone.drop_caption,
            )
            assert torch.equal(draw.noise, alone.noise)
            assert torch.equal(draw.posterior, alone.posterior)
    assert len({draws[0].noise.sum().item() for draws in seen.values()}) == 12


@pytest.mark.parametrize("full", [False, True])
def test_logits_and_weights_are_those_of_a_running_reference_bit_for_bit(
    run_train, tmp_path, monkeypatch, full
):
    """At the training's shape: every number logged, and the exported weights."""
    settings = {**LONG, "reference_draws": 2, "full": full}
    kept = run_train("kept", cache=tmp_path / "cache", **settings)
    monkeypatch.setattr(loop_module, "with_references", lambda job, *given: job)
    running = run_train("running", cache=tmp_path / "cache", **settings)
    assert rows(tmp_path / "kept") == rows(tmp_path / "running")
    for file in kept.adapter.glob("*.safetensors"):
        assert file.read_bytes() == (running.adapter / file.name).read_bytes()


def test_a_sweep_runs_the_reference_once(run_train, tmp_path, reference_passes):
    cache = tmp_path / "cache"
    run_train("plain", cache=cache, **LONG)
    assert len(reference_passes) == LONG["steps"] + 1  # once more for what is held out
    reference_passes.clear()
    run_train("first", cache=cache, **LONG, reference_draws=2)
    checked = 1  # a twentieth of 8 steps of 5 pairs, 2 passes each: 4 draws
    assert len(reference_passes) == 2 * 10 // 5 + checked
    reference_passes.clear()
    run_train("other", cache=cache, **LONG, reference_draws=2, method="ipo", beta=100.0, rank=2)
    assert len(reference_passes) == checked
    assert len(list((cache / "reference").iterdir())) == 2  # of the pairs, and of those held out


@pytest.fixture
def job(run_train, monkeypatch):
    """What a training with fixed draws runs on."""
    held = []
    monkeypatch.setattr(loop_module, "with_references", lambda job, *given: held.append(job) or job)
    run_train(steps=1, reference_draws=2)
    return held[0]


def test_errors_are_shared_by_all_that_leaves_the_reference_as_it_is(job):
    name = fingerprint(job, "weights")
    for changed in ({"beta": 9.0}, {"learning_rate": 1e-6}, {"rank": 2}, {"steps": 9}, {"full": True}):
        settings = job.settings.model_copy(update=changed)
        assert fingerprint(replace(job, settings=settings), "weights") == name
    for method in ("ipo", "kto", "rainbow"):
        objective = registry.load("objectives", method)
        draws = replace(job.draws, group=objective.group_size)
        assert fingerprint(replace(job, objective=objective, draws=draws), "weights") == name
    assert fingerprint(replace(job, draws=replace(job.draws, uses=8)), "weights") == name


def test_another_reference_picture_noise_or_format_has_errors_of_its_own(job):
    told = [fingerprint(job, "weights"), fingerprint(job, "other weights")]
    told.append(fingerprint(replace(job, batch_size=2), "weights"))
    for changed in ({"dtype": "bfloat16"}, {"compile": True}):
        told.append(fingerprint(replace(job, settings=job.settings.model_copy(update=changed)), "weights"))
    for given in ({"flip": True}, {"seed": 1}, {"last": 500}, {"discount": 0.9}, {"caption_dropout": 0.5}):
        told.append(fingerprint(replace(job, draws=replace(job.draws, **given)), "weights"))
    for given in ({"sigma": job.schedule.sigma * 2}, {"prediction_type": "v_prediction"}):
        told.append(fingerprint(replace(job, schedule=replace(job.schedule, **given)), "weights"))
    first, *rest = job.pairs
    for pairs in (rest, [replace(first, caption="else"), *rest], [*rest, first]):
        told.append(fingerprint(replace(job, pairs=pairs), "weights"))
    assert len(set(told)) == len(told)


def named(pairs, **given) -> str:
    """Of a training that only these items tell from others; pictures are by their number."""
    settings = TrainSettings(method="dpo", reference_draws=2)
    schedule = SimpleNamespace(
        prediction_type="epsilon", alpha=torch.ones(2), sigma=torch.ones(2), model_times=None
    )
    cache = SimpleNamespace(shape=(4, 8, 8), size=lambda picture: (16, 16))
    draws = DrawSettings(0, len(pairs), 2, (4, 8, 8), flip=False, caption_dropout=0.0, uses=2)
    held = {"settings": settings, "schedule": schedule, "cache": cache, "pairs": pairs, "draws": draws}
    return fingerprint(SimpleNamespace(**held, objective=DPO, batch_size=16, **given), "weights")


def test_pictures_sides_and_captions_have_errors_of_their_own():
    names = [
        named([TrainingPair("1", "2", "red")]),
        named([TrainingPair("2", "1", "red")]),
        named([TrainingPair("1", "3", "red")]),
        named([TrainingPair("1", "2", "blue")]),
        named([TrainingPair("1", "2", "red")] * 2),
    ]
    assert len(set(names)) == 5
    assert named([TrainingPair("1", "2", "red")], beta=9.0) == names[0]


def test_errors_that_this_machine_does_not_compute_are_refused(run_train, tmp_path):
    """Winners' errors off by one part in a thousand move logits at β 5000 far beyond 0.02."""
    cache, settings = tmp_path / "cache", {**LONG, "reference_draws": 2}
    run_train("first", cache=cache, **settings)
    for path in (cache / "reference").rglob("*.safetensors"):
        winners = torch.tensor([[1.001], [1.0]])
        drifted = {name: value * winners for name, value in load_file(path).items()}
        save_file(drifted, path)
    with pytest.raises(RpoError, match="not what this machine computes") as caught:
        run_train("second", cache=cache, **settings, beta=4999.0)
    assert "delete" in caught.value.hint


def test_a_training_with_kept_errors_that_was_stopped_ends_with_the_same_bytes(run_train, tmp_path):
    settings = {**LONG, "reference_draws": 2, "save_every": 2}
    whole = run_train("whole", cache=tmp_path / "one", **settings)
    with pytest.raises(Terminated):
        run_train("cut", cache=tmp_path / "two", observer=StopAt(6), **settings)
    cut = run_train("cut", cache=tmp_path / "two", **settings)
    assert adapter(cut) == adapter(whole)
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"method": "sft"}, "runs no reference"),
        ({"method": "mapo"}, "runs no reference"),
        ({"method": "rainbow", "reference_mix": 0.0}, "runs no reference"),
        ({"method": "dpo", "reference_every": 5}, "a reference that moves"),
        ({"method": "dspo"}, "both predictions at once"),
        ({"method": "ir-dro"}, "one timestep"),
        ({"method": "relative"}, "one noise"),
    ],
)
def test_methods_whose_reference_cannot_be_kept_refuse_at_the_door(run_train, settings, why):
    with pytest.raises(SettingsError) as caught:
        run_train(reference_draws=4, global_batch=64, **settings)
    assert "train.reference_draws" in caught.value.message
    assert why in caught.value.message


def test_none_and_zero_are_the_training_without(run_train):
    assert adapter(run_train("none")) == adapter(run_train("zero", reference_draws=0))

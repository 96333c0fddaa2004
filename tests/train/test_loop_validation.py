"""What is held out costs little: few draws, one model where two are equal, and nothing twice."""

import json
from dataclasses import replace

import pytest

from rpo_cli.config import TrainSettings
from rpo_cli.train import loop as loop_module
from rpo_cli.train.job import validation_draws
from rpo_cli.train.objectives.presets import DPO, SFT
from tests.observed import Notes


@pytest.fixture
def held_out_passes(monkeypatch):
    """Whether the reference ran too, for every look at what is held out."""
    found = []
    real = loop_module.validation_errors

    def watched(*given, with_reference=False, **how):
        found.append(with_reference)
        return real(*given, with_reference=with_reference, **how)

    monkeypatch.setattr(loop_module, "validation_errors", watched)
    return found


@pytest.mark.parametrize(
    ("settings", "held_out", "draws"),
    [
        # 200 steps of 16 pairs, 3 passes each: 5 % of 9,600 are 480; the start and 4 validations: 96 each
        ({}, 100, 96),
        ({"full": True}, 100, 128),  # 4 passes: 128 each, and that is all that is drawn
        ({"reference_draws": 2}, 100, 64),  # 2 passes
        ({}, 2, 32),  # 16 of each pair
        ({"steps": 4, "global_batch": 1}, 1, 0),  # 0.3: none
        ({"steps": 4, "global_batch": 1, "validation_draws": 1}, 1, 1),
        ({"validate_every": 10}, 100, 22),  # 480 / 21
        ({"validation_draws": 300}, 2, 300),
        ({}, 0, 0),
    ],
)
def test_validation_takes_a_twentieth_of_the_work_at_most(settings, held_out, draws):
    assert validation_draws(TrainSettings(**settings), DPO, held_out) == draws


def test_validation_of_a_method_without_reference_is_held_against_what_that_costs():
    assert validation_draws(TrainSettings(), SFT, 100) == 64


def rows(out):
    found = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return [row for row in found if row["split"] == "validation"]


def test_a_policy_that_starts_as_its_reference_runs_once_at_the_start_and_says_the_same(
    run_train, tmp_path, held_out_passes, monkeypatch
):
    run_train("one", cache=tmp_path / "cache", steps=2)
    assert held_out_passes == [False, False]
    monkeypatch.setattr(loop_module, "held_out_fingerprint", lambda *given: "another")
    monkeypatch.setattr(
        loop_module,
        "start_errors",
        lambda *given: loop_module.validation_errors(*given, with_reference=True),
    )
    run_train("both", cache=tmp_path / "cache", steps=2)
    assert held_out_passes[2:] == [True, False]
    assert rows(tmp_path / "one") == rows(tmp_path / "both")
    assert rows(tmp_path / "one")[0]["kl"] == 0.0


def test_the_next_training_of_this_model_looks_up_what_the_reference_says(
    run_train, tmp_path, held_out_passes
):
    run_train("first", cache=tmp_path / "cache", steps=2)
    run_train("second", cache=tmp_path / "cache", steps=2, learning_rate=2e-3, flip=True)
    assert held_out_passes == [False, False, False]  # the start and end of the first, the end of the second
    first, second = rows(tmp_path / "first"), rows(tmp_path / "second")
    assert first[0] == second[0]
    assert first[1] != second[1]


def test_one_more_draw_is_looked_at_anew(run_train, tmp_path, held_out_passes):
    run_train("first", cache=tmp_path / "cache", steps=2)
    run_train("second", cache=tmp_path / "cache", steps=2, validation_draws=9)
    assert held_out_passes == [False] * 4


def test_a_training_too_short_for_a_look_says_so_and_takes_none(run_train, tmp_path, held_out_passes):
    observer = Notes()
    report = run_train(steps=2, validation_draws=None, observer=observer)
    assert held_out_passes == []
    assert rows(tmp_path / "out") == []
    assert report.validation_last == {}
    assert any("4 held out, not looked at: so short a training" in note for note in observer.said)


def test_draws_of_a_method_that_couples_items_are_whole_groups():
    kto = replace(DPO, group_size=20)
    assert validation_draws(TrainSettings(), kto, 100) == 80
    assert validation_draws(TrainSettings(validation_draws=5), kto, 100) == 20
    assert validation_draws(TrainSettings(steps=10), kto, 100) == 0

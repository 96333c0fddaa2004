"""What training does when numbers go wrong: a batch that is not finite is left out, and said."""

import json
from dataclasses import replace

import pytest
import torch

from rpo_cli.errors import RpoError, Terminated
from rpo_cli.train import step
from rpo_cli.train import step as step_module
from rpo_cli.train.journal import far_out, runaway_warning
from rpo_cli.train.objectives.objective import Errors
from rpo_cli.train.objectives.presets import DPO, F_DPO, SFT
from tests.observed import StopsAt

BAD = 3  # the pair whose error is not finite


@pytest.fixture
def poisoned(monkeypatch):
    """The errors of pair BAD are NaN in training, the policy's and the reference's."""
    forward = step.forward

    def poison(job, policy, items, draws, **given):
        errors = forward(job, policy, items, draws, **given)
        if items is job.pairs:
            for place, draw in enumerate(draws):
                if draw.pair == BAD:
                    errors.policy.data[place] = float("nan")
                    errors.reference[place] = float("nan")
        return errors

    monkeypatch.setattr(step, "forward", poison)


def rows(folder) -> list[dict]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "pairs_per_second"} for row in found]


def test_a_batch_that_is_not_finite_is_left_out_and_its_pair_is_named(run_train, tmp_path, poisoned):
    """10 pairs in batches of 2: each epoch of 5 steps leaves out one."""
    notes = StopsAt()
    report = run_train(steps=10, global_batch=2, batch_size=1, observer=notes)
    train = [row for row in rows(tmp_path / "out") if row["split"] == "train"]
    left_out = [row for row in train if "skipped_pairs" in row]
    assert [row["step"] for row in train] == list(range(1, 11))
    assert [row["skipped_pairs"] for row in left_out] == [[BAD], [BAD]]
    assert sum("left out" in text for text in notes.said) == 2
    assert "loss" in report.train_first
    assert "loss" in report.train_last


def test_what_was_left_out_changes_no_weight(run_train, tmp_path, poisoned, monkeypatch):
    """The optimiser steps 8 times in 10, and never on a slope that is not finite."""
    steps = []
    step = step_module.torch.optim.AdamW.step

    def watch(optimiser, *given, **named):
        slopes = [p.grad for group in optimiser.param_groups for p in group["params"]]
        steps.append(all(bool(slope.isfinite().all()) for slope in slopes))
        return step(optimiser, *given, **named)

    monkeypatch.setattr(step_module.torch.optim.AdamW, "step", watch)
    run_train(steps=10, global_batch=2, batch_size=2)
    assert steps == [True] * 8


def test_a_batch_with_a_logit_far_out_is_left_out_and_only_its_pair_is_named(
    run_train, tmp_path, monkeypatch
):
    """The winner's error is 1 off, so at β 5000 its logit is −2500; ppod's own unit is not judged."""
    forward, calls = step.forward, []

    def spike(job, policy, items, draws, **given):
        errors = forward(job, policy, items, draws, **given)
        calls.append(items is job.pairs)
        if items is job.pairs and sum(calls) > 1:  # the first step starts at the reference
            for place, draw in enumerate(draws):
                errors.policy.data[place] += float(draw.pair == BAD)
        return errors

    monkeypatch.setattr(step, "forward", spike)
    run_train(steps=10, global_batch=2, batch_size=2)
    left_out = [row["skipped_pairs"] for row in rows(tmp_path / "out") if "skipped_pairs" in row]
    assert set(map(tuple, left_out)) == {(BAD,)}
    calls.clear()
    run_train("ppod", method="ppod", steps=10, global_batch=2, batch_size=2)
    assert not any("skipped_pairs" in row for row in rows(tmp_path / "ppod"))


def test_logits_are_far_out_beyond_a_thousand_whatever_the_method_compares():
    reference = torch.zeros(4)
    for policy, expected in (([0.0, 0.0, 0.39, 0.0], False), ([0.0, 0.0, 0.41, 0.0], True)):
        errors = Errors(torch.tensor(policy), reference)
        assert far_out(errors, DPO, 5000.0).tolist() == [expected, False]
    assert far_out(Errors(torch.full((4,), 9.0), reference), SFT, 5000.0).tolist() == [False, False]


@pytest.mark.parametrize("divergence", ["forward-kl", "alpha"])
def test_a_logit_that_grows_like_an_exponential_is_not_far_out(divergence):
    """Errors that DPO calls 10 logits apart, in the middle of a training, are e^10 here."""
    objective = replace(F_DPO, divergence=divergence, divergence_alpha=1.0)
    errors = Errors(torch.tensor([0.004, 0.41, 0.0, 0.0]), torch.zeros(4))
    assert objective.logits(errors, 5000.0)[0].abs() > 1000
    assert far_out(errors, objective, 5000.0).tolist() == [False, True]


@pytest.mark.parametrize("stop", [4, 7])
def test_a_training_with_left_out_batches_that_was_stopped_ends_with_the_same_bytes(
    run_train, tmp_path, poisoned, stop
):
    settings = {"steps": 8, "global_batch": 2, "batch_size": 2, "save_every": 1}
    whole = run_train("whole", **settings)
    with pytest.raises(Terminated):
        run_train("cut", observer=StopsAt(stop), **settings)
    cut = run_train("cut", **settings)
    for file in whole.adapter.iterdir():
        assert (cut.adapter / file.name).read_bytes() == file.read_bytes(), file.name
    assert rows(tmp_path / "cut") == rows(tmp_path / "whole")


def test_the_fourth_in_a_row_is_an_error_and_the_last_good_checkpoint_stays(
    run_train, tmp_path, monkeypatch
):
    summarise = step_module.summarise
    seen = []

    def broken_from_the_third(errors, objective, beta):
        numbers = summarise(errors, objective, beta)
        seen.append(1)
        return numbers | ({"loss": float("nan")} if len(seen) > 2 else {})

    monkeypatch.setattr(step_module, "summarise", broken_from_the_third)
    settings = {"steps": 9, "save_every": 1, "validate_every": 100, "method": "sft"}
    with pytest.raises(RpoError, match="loss is nan at step 3 and on to 6"):
        run_train(**settings)
    names = [path.name for path in (tmp_path / "out").glob("checkpoint-*")]
    assert names == ["checkpoint-00000002.safetensors"]
    with pytest.raises(RpoError, match="loss is nan at step 3 and on to 6"):
        run_train(**settings)


def test_losers_twice_as_bad_as_the_references_are_warned_of():
    assert runaway_warning(7, {"loser_error": 0.2, "reference_loser_error": 0.1}) is None
    assert "2.5 times" in str(runaway_warning(7, {"loser_error": 0.25, "reference_loser_error": 0.1}))
    assert runaway_warning(7, {"loser_error": 9.0}) is None
    assert runaway_warning(7, {"skipped_pairs": [1]}) is None


def test_a_runaway_is_warned_of_once(run_train, monkeypatch):
    """Every step is one."""
    summarise = step_module.summarise

    def worse(errors, objective, beta):
        numbers = summarise(errors, objective, beta)
        return numbers | {"reference_loser_error": numbers["loser_error"] / 4}

    monkeypatch.setattr(step_module, "summarise", worse)
    notes = StopsAt()
    run_train(steps=3, observer=notes)
    assert sum("4 times the reference's" in text for text in notes.said) == 1


def test_captions_beyond_what_the_text_encoder_reads_are_counted(run_train, tiny, tmp_path):
    """The tiny encoder reads 16 tokens; of three captions one has 40."""
    told = tiny.bright_beats_dark(4, 0)
    told[1]["caption"] = "a " * 40
    tiny.write_split(tmp_path / "pairs", "train", told)
    notes = StopsAt()
    run_train(dataset=tmp_path / "pairs", cache=tmp_path / "cache", steps=1, observer=notes)
    (said,) = (
        text for text in notes.said if "1 of 3 captions are longer than the text encoder reads" in text
    )
    assert said.endswith(f": {'a ' * 20!r}")

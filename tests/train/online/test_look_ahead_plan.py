"""The plan of a training on trajectories: what the real one draws, scores and takes."""

import json

import pytest

from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import UsageError
from rpo_cli.train.families.unet import StableDiffusion1
from rpo_cli.train.look_ahead import plan as pair_plan
from rpo_cli.train.online.look_ahead import plan_online

SMALL = {"rounds": 2, "rank": 4, "batch_size": 4, "global_batch": 3, "learning_rate": 1e-4}
ONLINE = {"steps": 4, "guidance": 2.0, "images_per_prompt": 2, "prompts_per_round": 2, "inner_epochs": 2}


def planned(model, *, prompts=4, online=None, **settings):
    return plan_online(
        TrainSettings(**{**SMALL, **settings}),
        OnlineSettings(**{**ONLINE, **(online or {})}),
        prompts=prompts,
        model=str(model),
        revision=None,
    )


def test_what_is_planned_is_what_is_drawn_scored_and_learned(run_online, model, tmp_path):
    report = run_online(method="score-as-action", **{**SMALL, **ONLINE})
    last = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    found = planned(model, method="score-as-action")
    assert (found.pictures, found.pictures_per_round) == (report.images, 4) == (8, 4)
    assert found.scored == last["pictures_scored"]
    assert found.updates == last["optimiser_steps"] == report.steps == 8
    assert found.batch_size == 4


def test_flops_are_those_of_passes_over_two_branches_of_guidance(model, tmp_path):
    """A pair's pass takes two rows, and so does a guided picture's."""
    pair = pair_plan.plan(
        TrainSettings(method="dpo", rank=4), dataset=tmp_path, model=str(model), revision=None
    )
    once = pair.flops
    found = planned(model, method="dpok", online={"taught_steps": 3})
    assert found.flops_per_picture.drawing == 4 * once.policy_forward
    assert found.flops_per_picture.reference == 4 * once.reference_forward
    assert found.flops_per_picture.learning == 3 * (once.policy_forward + once.policy_backward)
    uses = 8 * 2
    drawing = 4 * (once.policy_forward + once.reference_forward)
    learning = 3 * (once.policy_forward + once.policy_backward)
    assert found.flops_of_training == 8 * drawing + uses * learning
    assert (found.trained, found.parameters) == (pair.trained, pair.parameters)
    assert found.memory.activations == 4 * pair.memory.activations // pair.batch_size
    alone = planned(model, method="ddpo", online={"guidance": 1.0})
    assert 2 * alone.flops_per_picture.drawing == found.flops_per_picture.drawing
    assert alone.flops_per_picture.reference == 0


def test_a_pair_whose_steps_are_summed_runs_forward_twice(model):
    plain, pair = planned(model, method="d3po"), planned(model, method="ppod-online")
    assert plain.recomputed_per_picture == 0
    # of its four steps the last is certain and cannot teach
    assert 4 * pair.recomputed_per_picture == 3 * pair.flops_per_picture.drawing
    assert pair.updates == 2 * 2 * 1  # two pairs a round are one step, used twice


def test_a_round_has_no_more_prompts_than_there_are(model):
    assert planned(model, method="ddpo", prompts=1).pictures == 2 * 2


def test_time_counts_what_is_computed_again_and_needs_a_known_peak(model, monkeypatch):
    assert planned(model, method="ppod-online").seconds_at_peak is None
    monkeypatch.setattr("rpo_cli.train.online.look_ahead.known_peak", lambda device, dtype: 1e9)
    found = planned(model, method="ppod-online")
    again = 2 * 2 * 2 * 2 * found.recomputed_per_picture  # rounds, uses, pairs, sides
    assert found.seconds_at_peak == pytest.approx((found.flops_of_training + again) / 1e9)


def test_a_plan_loads_no_weights_and_refuses_what_cannot_be_sampled(model, monkeypatch):
    def refuse(*args):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(StableDiffusion1, "load_denoiser", refuse)
    monkeypatch.setattr(StableDiffusion1, "load_encoders", refuse)
    assert planned(model, method="ddpo").trained
    with pytest.raises(UsageError, match="only 1 of these steps are random"):
        planned(model, method="ddpo", online={"steps": 2, "taught_steps": 2})

"""A training that goes on from another one's LoRA, beside the reference it names."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from rpo_cli.errors import Terminated, UsageError
from rpo_cli.train.composition import Start
from rpo_cli.train.export.lora_files import LORA_FILE, start_from
from rpo_cli.train.families.family import open_family
from rpo_cli.train.policy import build_policy
from tests.closeness import assert_close

STEPS = {"steps": 2, "validate_every": 2, "save_every": 1}


def lines(tmp_path, out, split="train"):
    rows = [json.loads(line) for line in (tmp_path / out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["split"] == split]


@pytest.fixture
def first(run_train):
    """A finished LoRA that has moved away from its model."""
    return run_train("first", steps=1, learning_rate=1e-2).adapter


def weights(folder):
    return load_file(folder / LORA_FILE)


def test_the_policy_begins_with_the_weights_of_the_lora(run_train, first):
    """One step of a rate that is next to nothing leaves them where they were."""
    report = run_train(
        "second", steps=1, learning_rate=1e-12, weight_decay=0.0, start=Start(first, None, "a")
    )

    before, after = weights(first), weights(report.adapter)
    for name, value in before.items():
        assert_close(after[name], value, steps=4)


def test_the_round_before_as_the_reference_gives_logits_of_zero_and_the_model_does_not(
    run_train, first, tmp_path
):
    run_train("previous", **STEPS, start=Start(first, first, "a"))
    run_train("base", **STEPS, start=Start(first, None, "b"))

    assert lines(tmp_path, "previous")[0]["logit_mean"] == 0.0
    assert lines(tmp_path, "previous")[0]["loss"] == pytest.approx(0.693147, abs=1e-6)
    assert abs(lines(tmp_path, "base")[0]["logit_mean"]) > 1e-3


def test_held_out_pairs_are_compared_with_the_model_whatever_the_reference_is(run_train, first, tmp_path):
    """So the numbers of all rounds are of one kind: what one round ends with the next begins with."""
    run_train("previous", **STEPS, start=Start(first, first, "a"))

    last, begun = lines(tmp_path, "first", "validation")[-1], lines(tmp_path, "previous", "validation")[0]
    scale = last["winner_error"]  # an advantage is the difference of two errors
    assert_close(begun["winner_advantage"], last["winner_advantage"], scale=scale)


def test_stopped_at_a_step_it_ends_with_the_same_bytes(run_train, first):
    """The reference is no part of what is trained, and must come back as it was."""
    start = Start(first, first, "a", keep_reference=True)
    moving = {"method": "sapo", "reference_decay": 0.5}

    class StopAt:
        left = 2

        def start(self, stage, total, present):
            self.training = stage == "train"

        def advance(self, rows, rejects):
            self.left -= self.training
            if self.left == 0:
                raise Terminated

        def finish(self): ...

        def note(self, text): ...

    whole = run_train("whole", **STEPS, **moving, start=start)
    with pytest.raises(Terminated):
        run_train("cut", **STEPS, **moving, start=start, observer=StopAt())
    cut = run_train("cut", **STEPS, **moving, start=start)

    for name in (f"adapter/{LORA_FILE}", f"reference/{LORA_FILE}"):
        assert (cut.adapter.parent / name).read_bytes() == (whole.adapter.parent / name).read_bytes()


def test_the_averaged_reference_is_kept_and_is_what_the_decay_says(run_train, first, tmp_path):
    """b = 0.5 over one step: half way between the start and the policy after the step."""
    start = Start(first, first, "a", keep_reference=True)
    report = run_train("one", method="sapo", reference_decay=0.5, steps=1, start=start)

    before, after = weights(first), weights(report.adapter)
    kept = weights(tmp_path / "one" / "reference")
    assert kept.keys() == after.keys()
    for name, value in kept.items():
        assert_close(value, (before[name] + after[name]) / 2)
    assert any(not torch.equal(before[name], after[name]) for name in after)


def test_a_reference_of_its_own_is_neither_the_policy_nor_the_model(run_train, first, model, tmp_path):
    other = run_train("other", **STEPS, learning_rate=2e-2).adapter
    family = open_family(str(model))
    settings = replace_rank(4)
    policy = build_policy(family.load_denoiser(), settings, family.lora_targets, 0, "cpu")

    anchor = start_from(policy, family, Start(first, other, "a"))

    assert anchor is not None
    assert parameters_equal(policy.parameters, weights(first))
    assert parameters_equal(anchor.values, weights(other))
    assert start_from(policy, family, Start(first, None, "a")) is None


def replace_rank(rank):
    from rpo_cli.config import TrainSettings

    return TrainSettings(rank=rank)


def parameters_equal(found, saved):
    return all(
        torch.equal(value, saved[f"unet.{name.replace('.default.', '.')}"]) for name, value in found.items()
    )


def test_another_start_is_another_training(run_train, first):
    start = Start(first, None, "a")
    run_train("named", **STEPS, start=start)
    with pytest.raises(UsageError, match="start 'a' → 'b'"):
        run_train("named", **STEPS, start=replace(start, identity="b"))
    assert run_train("named", **STEPS, start=start).skipped


def test_a_lora_of_another_rank_is_refused_with_its_file(run_train, first):
    with pytest.raises(UsageError, match=r"pytorch_lora_weights.safetensors: holds no weights for .*shape"):
        run_train("wider", **STEPS, rank=8, start=Start(first, None, "a"))
    with pytest.raises(UsageError, match="cannot be read"):
        run_train("absent", **STEPS, start=Start(first.parent / "none", None, "a"))

"""The plan of a training: FLOPs by hand, shapes and counts of the real thing, nothing read or written."""

import json

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from rpo_cli.cli.reports import plan_text
from rpo_cli.config import TrainSettings
from rpo_cli.train import loop as loop_module
from rpo_cli.train.families.family import Folder, open_family
from rpo_cli.train.families.unet import StableDiffusion1
from rpo_cli.train.look_ahead import memory as memory_module
from rpo_cli.train.look_ahead import plan as plan_module
from rpo_cli.train.look_ahead.memory import kept_bytes
from rpo_cli.train.look_ahead.plan import counted, ideal_seconds, plan
from rpo_cli.train.objectives.presets import DPO


def planned(model, dataset, **settings):
    return plan(TrainSettings(**settings), dataset=dataset, model=str(model), revision=None)


def test_a_linear_and_a_convolution_have_their_hand_counted_flops():
    """Linear: 2·rows·in·out; convolution: 2·C_in·C_out·9 per output pixel; backward: twice that."""
    with torch.device("meta"):
        linear, convolution = nn.Linear(5, 7), nn.Conv2d(3, 4, 3, padding=1)
        flat, picture = torch.zeros(6, 5, requires_grad=True), torch.zeros(2, 3, 8, 8, requires_grad=True)
    assert counted(lambda: linear(flat)) == 2 * 6 * 5 * 7
    assert counted(lambda: convolution(picture)) == 2 * (3 * 4 * 9) * (2 * 8 * 8)
    found = [linear(flat)]
    assert counted(lambda: found.pop().sum().backward()) == 2 * (2 * 6 * 5 * 7)


def test_a_frozen_layer_costs_one_forward_in_the_backward_pass():
    with torch.device("meta"):
        layer = nn.Linear(5, 7).requires_grad_(False)
        found = [layer(torch.zeros(6, 5, requires_grad=True))]
    assert counted(lambda: found.pop().sum().backward()) == 2 * 6 * 5 * 7


def test_what_autograd_keeps_is_counted_once_and_without_weights():
    """x·W keeps x and W; the product is kept twice by its square, as one storage."""
    with torch.device("meta"):
        layer, given = nn.Linear(5, 7, bias=False), torch.zeros(6, 5, requires_grad=True)
    assert kept_bytes(layer, lambda: layer(given).square(), checkpointing=False) == 4 * (6 * 5 + 6 * 7)


@pytest.mark.parametrize("full", [False, True])
def test_planned_parameters_are_those_that_train(run_train, model, dataset, monkeypatch, full):
    held = []
    build = loop_module.build_policy
    monkeypatch.setattr(loop_module, "build_policy", lambda *a: held.append(build(*a)) or held[-1])
    run_train(full=full, steps=1)
    found = planned(model, dataset, full=full, rank=4)
    assert found.trained == sum(value.numel() for value in held[0].parameters.values())
    assert found.parameters == sum(value.numel() for value in held[0].unet.parameters())
    assert found.pairs == 10


@pytest.mark.parametrize("full", [False, True])
def test_planned_flops_are_those_of_the_real_model(model, dataset, full):
    """Counted on the plan's meta tensors and on the loaded weights."""
    family = open_family(str(model))
    unet = family.load_denoiser().requires_grad_(full)
    condition = {"hidden": torch.zeros(2, 16, 16)}
    inputs = torch.zeros(2, 4, 8, 8), torch.zeros(2), condition
    found = planned(model, dataset, full=full, rank=4)
    with sdpa_kernel(SDPBackend.MATH):  # torch does not count its fused attention on a CPU
        assert found.flops.reference_forward == counted(lambda: family.predict(unet, *inputs))
    assert found.flops_per_pair == sum(vars(found.flops).values())
    steps = found.flops_per_pair * found.global_batch * found.steps
    assert found.flops_of_training == steps + found.flops_of_validation
    assert 0 < found.flops_of_validation <= 0.05 * found.flops_of_training
    if full:
        assert found.flops.policy_forward == found.flops.reference_forward
        assert found.memory.reference == 4 * found.trained
    else:
        assert found.flops.reference_forward < found.flops.policy_forward
        assert found.memory.reference == 0


def test_a_plan_follows_method_batch_dtype_and_checkpointing(model, dataset):
    plain = planned(model, dataset, batch_size=4)
    assert planned(model, dataset, method="sft").flops.reference_forward == 0
    assert planned(model, dataset, reference_draws=2).flops.reference_forward == 0
    assert plain.passes_per_step == 4
    assert planned(model, dataset, batch_size=8).memory.activations == 2 * plain.memory.activations
    half = planned(model, dataset, batch_size=4, dtype="bfloat16").memory
    assert 2 * half.activations == pytest.approx(plain.memory.activations, abs=1)
    assert half.weights < plain.memory.weights
    saving = planned(model, dataset, batch_size=4, gradient_checkpointing=True)
    assert saving.memory.activations < plain.memory.activations
    assert saving.flops == plain.flops
    assert planned(model, dataset, optimiser="adafactor").memory.optimiser < plain.memory.optimiser


def test_a_plan_says_where_memory_cuts_what_is_set(model, dataset, monkeypatch):
    assert planned(model, dataset).notes == ()
    monkeypatch.setattr(memory_module, "free_memory", lambda device: 1000)
    cut = planned(model, dataset)
    assert (cut.batch_size, cut.checkpointing, cut.passes_per_step) == (1, True, 16)
    assert cut.notes[0].startswith("1 a forward pass instead of 16, and gradient checkpointing")
    text = plan_text(cut)
    assert text.endswith("\n".join(cut.notes))


def test_a_plan_loads_no_weights_and_needs_no_dataset(model, tmp_path, monkeypatch):
    def refuse(*args):
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(StableDiffusion1, "load_denoiser", refuse)
    monkeypatch.setattr(StableDiffusion1, "load_encoders", refuse)
    assert planned(model, tmp_path).pairs is None
    assert list(tmp_path.iterdir()) == []


def test_mfu_is_logged_only_where_a_peak_is_known(run_train, tmp_path, monkeypatch, model):
    def rows(name):
        lines = map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())
        return [row for row in lines if row["split"] == "train"]

    run_train("without", steps=1)
    assert "useful_mfu" not in rows("without")[0]
    monkeypatch.setattr("rpo_cli.train.loop.known_peak", lambda device, dtype: 1e12)
    report = run_train("with", steps=1)
    family = open_family(str(model))
    ideal = ideal_seconds(TrainSettings(rank=4), DPO, family, Folder(str(model), None), 1e12)
    (row,) = rows("with")
    assert row["useful_mfu"] == pytest.approx(row["pairs_per_second"] * ideal.useful, rel=1e-2)
    assert row["hardware_mfu"] == pytest.approx(row["useful_mfu"])  # nothing is computed again
    assert "useful_mfu" not in report.train_last  # of the clock, as pairs_per_second is


def test_checkpointing_counts_what_is_computed_again(model, dataset):
    """Blocks are run a second time; what lies outside them is not."""
    plain, saving = planned(model, dataset), planned(model, dataset, gradient_checkpointing=True)
    assert plain.recomputed_per_pair == 0
    assert 0.5 * saving.flops.policy_forward < saving.recomputed_per_pair <= saving.flops.policy_forward
    assert (
        planned(model, dataset, method="kto", batch_size=4).recomputed_per_pair
        == plain.flops.policy_forward
    )


def test_time_is_told_where_a_peak_is_known_and_only_there(model, dataset, monkeypatch):
    assert planned(model, dataset).seconds_at_peak is None
    monkeypatch.setattr(plan_module, "known_peak", lambda device, dtype: 1e9)
    found = planned(model, dataset, gradient_checkpointing=True, processes=2)
    items = found.steps * found.global_batch
    wanted = (found.flops_of_training + found.recomputed_per_pair * items) / 2e9
    assert found.seconds_at_peak == pytest.approx(wanted)

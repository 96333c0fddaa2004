"""The optimiser step, against defects that public preference trainers ship (`Found in` names where)."""

import json

import pytest
import torch

from rpo_cli import registry
from rpo_cli.train import step as step_module
from rpo_cli.train.noise import image_errors
from rpo_cli.train.objectives.objective import Errors
from rpo_cli.train.objectives.presets import DPO
from tests.closeness import assert_close


class Watched:
    """What AdamW was given and made, step by step."""

    def __init__(self, monkeypatch) -> None:
        self.steps: list[tuple[list, list, list]] = []
        step = torch.optim.AdamW.step

        def watch(optimiser, *args, **kwargs):
            weights = [p for group in optimiser.param_groups for p in group["params"]]
            before = [weight.detach().clone() for weight in weights]
            slopes = [weight.grad.detach().clone() for weight in weights]
            result = step(optimiser, *args, **kwargs)
            self.steps.append((before, slopes, [weight.detach().clone() for weight in weights]))
            return result

        monkeypatch.setattr(torch.optim.AdamW, "step", watch)


@pytest.mark.parametrize("name", ["dpo", "sft"])
def test_the_update_is_that_of_plain_adamw_on_the_same_gradients(run_train, monkeypatch, name):
    """Three steps by the formula in float64: betas 0.9 and 0.999, eps 1e-8, decoupled decay."""
    watched = Watched(monkeypatch)
    run_train(method=name, steps=3, learning_rate=1e-3, weight_decay=0.01)
    first = second = None
    for count, (before, slopes, after) in enumerate(watched.steps, start=1):
        g = torch.cat([slope.flatten() for slope in slopes]).double()
        w = torch.cat([weight.flatten() for weight in before]).double()
        first = 0.1 * g if first is None else 0.9 * first + 0.1 * g
        second = 0.001 * g**2 if second is None else 0.999 * second + 0.001 * g**2
        move = (first / (1 - 0.9**count)) / ((second / (1 - 0.999**count)).sqrt() + 1e-8)
        expected = w * (1 - 1e-3 * 0.01) - 1e-3 * move
        found = torch.cat([weight.flatten() for weight in after])
        assert_close(found, expected, steps=4)  # a move is 1e-3


def test_what_the_optimiser_gets_is_clipped(run_train, monkeypatch, tmp_path):
    """Found in SPO and LPO: the parameters to clip were a consumed iterator, and nothing was clipped."""
    watched = Watched(monkeypatch)
    run_train(steps=2, max_grad_norm=1e-3)
    for _, slopes, _ in watched.steps:
        norm = torch.cat([slope.flatten() for slope in slopes]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert all(row["grad_norm"] > 1e-2 for row in rows if row["split"] == "train")


def test_the_loss_is_the_mean_of_the_links_and_not_the_link_of_the_mean():
    """Found in invoke-training: the batch mean is taken before the sigmoid."""
    errors = Errors(torch.tensor([0.1, 0.9, 0.5, 0.5]), torch.full((4,), 0.5))
    losses = DPO.losses(errors, 10.0)
    of_mean = torch.nn.functional.softplus(-DPO.logits(errors, 10.0).mean())
    assert losses.mean().item() > of_mean.item() + 0.1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_errors_are_reduced_in_float32(dtype):
    """Found in Salesforce's script: the reference's error is reduced in half precision, so equal models
    differ: a spurious logit of sd 0.5 at beta 5000."""
    generator = torch.Generator().manual_seed(0)
    said = torch.randn(8, 4, 32, 32, generator=generator).to(dtype)
    wanted = (said.float() + 0.3 * torch.randn(8, 4, 32, 32, generator=generator)).to(dtype)
    found = image_errors(said, wanted)
    truth = (said.double() - wanted.double()).square().mean(dim=(1, 2, 3))
    assert found.dtype == torch.float32
    assert (2500 * (found - truth).abs()).max() < 1e-3
    in_half = (said - wanted).square().mean(dim=(1, 2, 3))
    assert (2500 * (in_half - truth).abs()).max() > 1e-2


@pytest.mark.parametrize(
    "name", [n for n in registry.objectives if registry.load("objectives", n).compares]
)
def test_every_listed_method_has_the_beta_it_is_asked_for(name):
    """Found in diffusers: --loss_type ipo reads an option that does not exist, and crashes."""
    from rpo_cli.config import TrainSettings
    from rpo_cli.train.composition import settled

    assert settled(TrainSettings(method=name, beta=123.0))[0].beta == 123.0


def test_batches_that_a_thread_assembles_ahead_are_those_of_the_draws_in_their_order(
    run_train, monkeypatch
):
    """As on a GPU: what the device works on and what is assembled beside are told apart."""
    states, seen = [], []
    real = step_module.accumulate

    def watched(job, state):
        states.append((job, state))
        return real(job, state)

    monkeypatch.setattr(step_module, "accumulate", watched)
    run_train(steps=1, global_batch=4, batch_size=2, flip=True)
    job = states[0][0]
    draws = step_module.own_draws(job, 0)
    chunks = [draws[:1], draws[1:3], draws[3:]]
    for chunk, batch in step_module.ahead(job, chunks):
        plain = step_module.assemble(chunk, job.pairs, job.cache, job.schedule, job.device)
        assert torch.equal(batch.noisy, plain.noisy)
        assert torch.equal(batch.wanted, plain.wanted)
        assert batch.sizes == plain.sizes
        seen.append(chunk)
    assert seen == chunks


def test_an_error_of_the_assembling_thread_ends_the_step(run_train, monkeypatch):
    states = []
    real = step_module.accumulate
    monkeypatch.setattr(
        step_module, "accumulate", lambda job, state: states.append(job) or real(job, state)
    )
    run_train(steps=1)
    monkeypatch.setattr(step_module, "assemble", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(step_module.ahead(states[0], [step_module.own_draws(states[0], 0)]))

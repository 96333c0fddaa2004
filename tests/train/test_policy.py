"""What is compiled, and what a compiled model may start with."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.train.composition import composed
from rpo_cli.train.families.unet import StableDiffusion1
from rpo_cli.train.objectives.objective import Errors
from rpo_cli.train.policy import build_policy
from rpo_cli.train.step import require_equal_start
from tests.closeness import assert_close


@pytest.mark.parametrize("full", [False, True])
def test_the_policy_is_compiled_when_asked_and_its_names_stay(model, monkeypatch, full):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    family = StableDiffusion1(str(model))
    plain = build_policy(family.load_denoiser(), TrainSettings(full=full), family.lora_targets, 0, "cpu")
    assert compiled == []
    settings = TrainSettings(full=full, compile=True)
    policy = build_policy(family.load_denoiser(), settings, family.lora_targets, 0, "cpu")
    with policy.reference() as reference:
        assert compiled == ([policy.unet, reference] if full else [policy.unet])
    assert policy.parameters.keys() == plain.parameters.keys()


@pytest.mark.parametrize(
    ("compiled", "drift", "refused"),
    [(False, 0.0, False), (False, 1e-7, True), (True, 1e-5, False), (True, 1e-4, True)],
)
def test_only_a_compiled_model_may_start_a_little_off(compiled, drift, refused):
    """The logit is 5000 / 2 times the drift: 0.025 and 0.25 with a drift of 1e-5 and 1e-4."""
    objective = composed(TrainSettings(method="dpo"))
    job = SimpleNamespace(
        settings=TrainSettings(compile=compiled),
        objective=objective,
        beta=5000.0,
        references=None,
        starts_equal=True,
    )
    errors = Errors(torch.tensor([0.5, 0.5 + drift]), torch.tensor([0.5, 0.5]))
    if refused:
        with pytest.raises(RpoError, match="differs from its reference before the first step"):
            require_equal_start(errors, job)
    else:
        require_equal_start(errors, job)


def test_the_reference_of_a_trained_lora_is_the_model_and_the_policy_comes_back(model):
    family = StableDiffusion1(str(model))
    base = family.load_denoiser()
    noisy, times, condition = torch.randn(2, 4, 8, 8), torch.ones(2), {"hidden": torch.randn(2, 16, 16)}
    policy = build_policy(family.load_denoiser(), TrainSettings(), family.lora_targets, 0, "cpu")
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.add_(0.1)
        trained = family.predict(policy.unet, noisy, times, condition)
        with policy.reference() as unet:
            found = family.predict(unet, noisy, times, condition)
        assert_close(found, family.predict(base, noisy, times, condition))
        assert float((found - trained).abs().max()) > 1e-3
        assert torch.equal(family.predict(policy.unet, noisy, times, condition), trained)
    assert all(parameter.requires_grad for parameter in policy.parameters.values())

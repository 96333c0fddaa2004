"""What training writes is read back by diffusers to the same output."""

import json

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open

from rpo_cli.train import loop as loop_module
from tests.closeness import FORWARD, assert_close


@pytest.fixture
def trained(monkeypatch):
    """Collects the policy of the training that runs in this test."""
    held = {}
    build = loop_module.build_policy

    def remember(*args):
        held["policy"] = build(*args)
        return held["policy"]

    monkeypatch.setattr(loop_module, "build_policy", remember)
    return held


def predictions(unet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noisy, hidden = (
        torch.randn(2, 4, 8, 8, generator=generator),
        torch.randn(2, 16, 16, generator=generator),
    )
    with torch.no_grad():
        return unet(noisy, torch.tensor([10, 900]), encoder_hidden_states=hidden).sample


def test_a_lora_read_back_by_the_pipeline_gives_the_trainers_output(run_train, trained, model):
    report = run_train(learning_rate=1e-2)
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    before = predictions(pipeline.unet)
    pipeline.load_lora_weights(report.adapter)
    after = predictions(pipeline.unet)
    expected = predictions(trained["policy"].unet)
    assert (after - before).abs().max() > 1e-3
    assert_close(after, expected, FORWARD)


def test_the_pipeline_draws_another_picture_with_the_lora(run_train, model):
    report = run_train(learning_rate=1e-2)
    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)

    def draw():
        generator = torch.Generator().manual_seed(0)
        return pipeline("a red thing", num_inference_steps=2, generator=generator, output_type="pt").images

    before = draw()
    pipeline.load_lora_weights(report.adapter)
    assert not torch.equal(before, draw())


def test_a_fully_tuned_unet_loads_as_a_unet_and_gives_the_trainers_output(run_train, trained, model):
    report = run_train(full=True)
    assert report.adapter.name == "unet"
    unet = UNet2DConditionModel.from_pretrained(report.adapter, use_safetensors=True).eval()
    assert_close(predictions(unet), predictions(trained["policy"].unet), FORWARD)
    pipeline = StableDiffusionPipeline.from_pretrained(model, unet=unet, safety_checker=None)
    assert pipeline.unet is unet


@pytest.mark.parametrize("full", [False, True])
def test_no_local_path_gets_into_the_result(run_train, model, tmp_path, full):
    report = run_train(full=full, steps=1, model_identity="weights-123")
    for file in report.adapter.iterdir():
        content = file.read_bytes()
        assert str(model.parent).encode() not in content, file.name
        assert str(tmp_path).encode() not in content, file.name


def test_the_file_carries_settings_and_inputs_and_no_path(run_train, model):
    report = run_train()
    with safe_open(report.adapter / "pytorch_lora_weights.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["rpo"])
    assert facts["settings"]["beta"] == 5000.0
    assert facts["seed"] == 0
    assert facts["pairs"] == 10
    assert facts["model"] == model.name


def test_the_card_tells_settings_numbers_and_use(run_train, model):
    card = (run_train(model_identity="weights-123").adapter / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: diffusers\n")
    for text in (
        "| beta | 5000.0 |",
        "| implicit_accuracy | 0.5 |",
        "load_lora_weights",
        "2311.12908",
        "weights-123",
    ):
        assert text in card
    assert "pairs_per_second" not in card
    assert str(model) not in card


def test_the_last_checkpoint_is_gone_when_the_result_is_there(run_train, tmp_path):
    run_train()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter",
        "done.json",
        "metrics.jsonl",
        "settings.json",
    ]


def python_of(card: str) -> str:
    return card.partition("```python\n")[2].partition("```")[0]


def test_the_cards_own_code_puts_npo_weights_into_the_negative_branch_only(run_train, trained, model):
    report = run_train(method="npo", learning_rate=1e-2)
    card = (report.adapter / "README.md").read_text()
    assert "never draw with them alone" in card
    names = {
        "torch": torch,
        "StableDiffusionPipeline": StableDiffusionPipeline,
        "BASE_MODEL": str(model),
        "THIS_FOLDER": str(report.adapter),
    }
    exec(python_of(card), names)
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(4, 4, 8, 8, generator=generator)
    given = {"encoder_hidden_states": torch.randn(4, 16, 16, generator=generator)}
    base = UNet2DConditionModel.from_pretrained(model, subfolder="unet").eval()
    with torch.no_grad():
        found = names["pipe"].unet(noisy, 500, **given, return_dict=False)[0]
        negative = trained["policy"].unet(noisy, 500, **given).sample
        positive = base(noisy, 500, **given).sample
    assert_close(found[:2], negative[:2], FORWARD)
    assert_close(found[2:], positive[2:], FORWARD)
    assert (negative[:2] - base(noisy, 500, **given).sample[:2]).abs().max() > 1e-3


def test_the_lora_file_does_not_depend_on_the_layouts_beside_it(run_train):
    one, two = run_train("one"), run_train("two", export=["kohya"])
    file = "pytorch_lora_weights.safetensors"
    assert (one.adapter / file).read_bytes() == (two.adapter / file).read_bytes()

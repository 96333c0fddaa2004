"""Every family through `train`: starts at its reference, goes on after a cut, exports what loads back."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from rpo_cli import registry
from rpo_cli.backends.generator import DiffusersGenerator
from rpo_cli.errors import UsageError
from rpo_cli.protocols import Weights
from rpo_cli.train import loop as loop_module
from rpo_cli.train.export import layouts as export_module
from tests.closeness import FORWARD, assert_close

OTHERS = [name for name in registry.families if name != "sd1"]  # sd1: tests/train/test_loop.py


@pytest.fixture
def run_family(model_of, run_train, tmp_path):
    """Train the tiny model of a family at 16 pixels; settings may be given."""

    def call(name, out="out", **settings):
        given = {"resolution": 16, "learning_rate": 1e-2, "steps": 3, "save_every": 2, **settings}
        return run_train(out, model=str(model_of(name)), cache=tmp_path / "cache", **given)

    return call


@pytest.fixture
def trained(monkeypatch):
    """Collects what the training in this test runs on: policy and job."""
    held = {}
    build, prepare = loop_module.build_policy, loop_module.prepare
    monkeypatch.setattr(
        loop_module, "build_policy", lambda *given: held.setdefault("policy", build(*given))
    )
    monkeypatch.setattr(loop_module, "prepare", lambda *given: held.setdefault("job", prepare(*given)))
    return held


@pytest.fixture(scope="module")
def kept():
    return {}


@pytest.fixture
def tuned(kept, run_family, trained):
    """A family → the report, policy and job of its training with every layout it has, made once."""

    def call(name):
        if name not in kept:
            report = run_family(name, "tuned", export=layouts_of(name))
            kept[name] = (report, trained["policy"], trained["job"])
        return kept[name]

    return call


def layouts_of(name):
    return ["merged", "kohya"] if name in ("sd1", "sdxl") else ["merged"]


def rows(report, split: str) -> list[dict]:
    lines = (report.adapter.parent / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def prediction(family, denoiser, condition) -> torch.Tensor:
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return family.predict(denoiser, noisy, torch.tensor([500]), condition)


def condition_of(job) -> dict[str, torch.Tensor]:
    pair = job.pairs[0]
    return {part: value[None] for part, value in job.cache.prompt(pair.caption, pair.winner).items()}


@pytest.mark.parametrize("name", OTHERS)
def test_a_family_starts_at_zero_and_learns(name, tuned):
    report, _, _ = tuned(name)
    train = rows(report, "train")
    assert train[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert train[0]["logit_mean"] == train[0]["logit_std"] == 0.0
    assert train[-1]["logit_std"] > 0
    assert len(train) == 3
    assert report.validation_first["implicit_accuracy"] == 0.5


@pytest.mark.parametrize("name", OTHERS)
def test_a_lora_loads_back_by_the_pipeline_to_the_trainers_prediction(name, tuned, model_of):
    report, policy, job = tuned(name)
    pipeline = DiffusionPipeline.from_pretrained(model_of(name))
    denoiser = getattr(pipeline, job.family.component)
    condition = condition_of(job)
    before = prediction(job.family, denoiser, condition)
    pipeline.load_lora_weights(report.adapter)
    after = prediction(job.family, denoiser, condition)
    assert (after - before).abs().max() > 1e-4
    expected = prediction(job.family, policy.unet, condition)
    assert_close(after, expected, FORWARD)


@pytest.mark.parametrize("name", OTHERS)
def test_a_cut_training_goes_on_to_the_same_bytes(name, tuned, run_family, monkeypatch):
    whole, _, _ = tuned(name)
    step = loop_module.timed_step

    def cut(job, state, observer):
        if state.step == 2:
            raise KeyboardInterrupt
        return step(job, state, observer)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "timed_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_family(name, "cut", export=layouts_of(name))
    resumed = run_family(name, "cut", export=layouts_of(name))
    file = "pytorch_lora_weights.safetensors"
    assert (resumed.adapter / file).read_bytes() == (whole.adapter / file).read_bytes()


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_a_kohya_file_loads_back_by_the_pipeline_to_the_trainers_prediction(name, tuned, model_of):
    report, policy, job = tuned(name)
    pipeline = DiffusionPipeline.from_pretrained(model_of(name))
    pipeline.load_lora_weights(report.adapter / "kohya", weight_name="default.safetensors")
    condition = condition_of(job)
    after = prediction(job.family, pipeline.unet, condition)
    expected = prediction(job.family, policy.unet, condition)
    assert_close(after, expected, FORWARD)


@pytest.mark.parametrize("name", registry.families)
def test_a_merged_denoiser_predicts_what_the_trainer_does(name, tuned):
    report, policy, job = tuned(name)
    merged = type(policy.unet).from_pretrained(report.adapter / "merged", use_safetensors=True).eval()
    condition = condition_of(job)
    found = prediction(job.family, merged, condition)
    assert_close(found, prediction(job.family, policy.unet, condition), FORWARD)
    assert not any("lora" in key for key in merged.state_dict())


@pytest.mark.parametrize("name", ["sd3"])
def test_a_fully_tuned_transformer_lies_under_its_own_name(name, run_family, trained):
    report = run_family(name, full=True, steps=1)
    assert report.adapter.name == "transformer"
    policy, job = trained["policy"], trained["job"]
    loaded = type(policy.unet).from_pretrained(report.adapter, use_safetensors=True).eval()
    condition = condition_of(job)
    found = prediction(job.family, loaded, condition)
    assert_close(found, prediction(job.family, policy.unet, condition), FORWARD)
    assert run_family(name, full=True, steps=1).skipped


def test_layouts_are_added_to_a_finished_training_without_a_step(run_family, monkeypatch):
    first = run_family("sdxl", export=["merged"])
    card = (first.adapter / "README.md").read_text()
    monkeypatch.setattr(loop_module, "timed_step", lambda *given: pytest.fail("trained again"))
    shutil.rmtree(first.adapter / "merged")
    again = run_family("sdxl", export=["merged", "kohya"])
    assert again.skipped
    assert (again.adapter / "kohya" / "default.safetensors").exists()
    assert (again.adapter / "merged" / "diffusion_pytorch_model.safetensors").exists()
    text = (again.adapter / "README.md").read_text()
    assert text.startswith(card.partition("## Other layouts")[0])
    assert "`kohya/`" in text
    assert "`merged/`" in text
    assert "`kohya/`" not in card


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_family_without_a_kohya_layout_refuses_it_before_training(name, run_family, tmp_path):
    with pytest.raises(UsageError, match="has no layout 'kohya'") as caught:
        run_family(name, export=["kohya"])
    assert "ComfyUI reads the diffusers layout" in caught.value.hint
    assert not (tmp_path / "cache").exists()


def test_a_lora_layout_is_refused_for_full_tuning(run_family):
    with pytest.raises(UsageError, match="full tuning has no layout 'merged'"):
        run_family("sdxl", full=True, export=["merged"])


@pytest.mark.parametrize("name", registry.families)
def test_a_card_names_the_classes_of_its_family(name, tuned):
    report, _, _ = tuned(name)
    card = (report.adapter / "README.md").read_text()
    assert f"{registry.load('families', name).pipeline}.from_pretrained(BASE_MODEL)" in card


@pytest.mark.parametrize("name", OTHERS)
def test_half_precision_and_checkpointing_keep_the_start_at_exactly_zero(name, run_family):
    report = run_family(name, dtype="bfloat16", gradient_checkpointing=True, steps=2)
    first, second = rows(report, "train")
    assert first["logit_mean"] == first["logit_std"] == 0.0
    assert second["logit_std"] > 0


def test_a_logit_normal_density_is_refused_for_a_model_that_is_no_flow(run_family):
    with pytest.raises(UsageError, match="StableDiffusionXLPipeline is no flow model"):
        run_family("sdxl", timestep_density="logit-normal")


def test_flow_models_draw_logit_normal_noise_levels_unless_told_otherwise(run_family, trained):
    run_family("sd3", "a", steps=1)
    assert not torch.equal(trained["job"].schedule.sigma, trained["job"].family.schedule.sigma)
    trained.clear()
    run_family("sd3", "b", steps=1, timestep_density="uniform")
    assert trained["job"].schedule is trained["job"].family.schedule


def test_a_cut_between_two_layouts_leaves_whole_ones_and_is_made_good(run_family, monkeypatch):
    run_family("sd1")
    write = export_module.write_layout

    def cut(folder, layout, *given):
        write(folder, layout, *given)
        if layout == "merged":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(export_module, "write_layout", cut)
        with pytest.raises(KeyboardInterrupt):
            run_family("sd1", export=["kohya", "merged"])
    again = run_family("sd1", export=["kohya", "merged"])
    assert again.skipped
    assert sorted(path.name for path in again.adapter.iterdir()) == [
        "README.md",
        "kohya",
        "merged",
        "pytorch_lora_weights.safetensors",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.families)
def test_the_generator_draws_with_what_a_training_exported(name, run_family, model_of):
    """--lora gives the pictures of the whole denoiser with the LoRA added, and not those of the base."""
    adapter = run_family(name, export=("merged",)).adapter

    def drawn(**tuned):
        size = {"width": 16, "height": 16}
        generator = DiffusersGenerator(Weights(str(model_of(name))), steps=2, guidance=2.0, **size, **tuned)
        generator.setup()
        return [np.asarray(found, dtype=int) for found in generator.generate(["a cat", "two"], [1, 2])]

    base, by_lora, by_denoiser = drawn(), drawn(lora=str(adapter)), drawn(denoiser=str(adapter / "merged"))
    for one, two, three in zip(base, by_lora, by_denoiser, strict=True):
        assert np.abs(two - three).max() <= 1  # grey level
        assert np.abs(two - one).max() > 1

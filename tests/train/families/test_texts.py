"""Text encoders trained beside the denoiser: start at zero, learn, go on, come in files that load back."""

import json
import math

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file, save_file

from rpo_cli.backends.generator import DiffusersGenerator
from rpo_cli.config import OnlineSettings, TrainSettings
from rpo_cli.errors import SettingsError, UsageError
from rpo_cli.protocols import Weights
from rpo_cli.train import loop as loop_module
from rpo_cli.train.composition import Start
from rpo_cli.train.look_ahead.plan import plan
from rpo_cli.train.objectives.online import composed_online
from rpo_cli.train.policy import Texts, build_policy, load_texts
from tests.closeness import FORWARD, assert_close

FILE = "pytorch_lora_weights.safetensors"
ENCODERS = {"sd1": ("text_encoder",), "sdxl": ("text_encoder", "text_encoder_2")}


@pytest.fixture
def run_texts(model_of, run_train, tmp_path):
    """Train the tiny model of a family with its text encoders; settings may be given."""

    def call(name, out="out", **settings):
        given = {
            "resolution": 16,
            "learning_rate": 1e-2,
            "steps": 3,
            "save_every": 1,
            "rank": 2,
            **settings,
        }
        given.setdefault("text_encoder", True)
        given.setdefault("caption_dropout", 0.2)
        return run_train(out, model=str(model_of(name)), cache=tmp_path / "cache", **given)

    return call


@pytest.fixture
def trained(monkeypatch):
    """The policy of the last training of this test."""
    held = {}
    build = loop_module.build_policy

    def remember(*given):
        held["policy"] = build(*given)
        return held["policy"]

    monkeypatch.setattr(loop_module, "build_policy", remember)
    return held


def rows(report, split: str) -> list[dict]:
    lines = (report.adapter.parent / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def embedded(family, pipe) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return family.texts.embed(pipe, ["a red thing", "blue"])


def test_only_these_families_have_encoders_to_train(opened):
    found = {name: opened(name).family.texts for name in ("sd1", "sdxl", "sd3", "flux")}
    assert {name: parts.names for name, parts in found.items() if parts} == ENCODERS


def test_the_reference_has_the_adapters_of_the_text_encoders_off_too(opened):
    """And the policy has them on again afterwards, also when what was done with it failed."""
    family = opened("sd1").family
    settings = TrainSettings(text_encoder=True, rank=2)
    texts = load_texts(family, settings, "cpu")
    before = texts.condition(["a red thing"], 1)["hidden"]
    policy = build_policy(family.load_denoiser(), settings, family.lora_targets, 0, "cpu", texts)
    assert torch.equal(
        texts.condition(["a red thing"], 1)["hidden"], before
    )  # an adapter begins as nothing
    for name, value in policy.parameters.items():
        if "lora_B" in name:
            value.data.fill_(0.5)

    with policy.reference():
        assert torch.equal(texts.condition(["a red thing"], 1)["hidden"], before)
    with pytest.raises(ZeroDivisionError), policy.reference():
        raise ZeroDivisionError
    after = texts.condition(["a red thing"], 1)["hidden"]
    assert (after - before).abs().max() > 0.01 * before.abs().max()


SLOW_SD1 = [pytest.param("sd1", marks=pytest.mark.slow), "sdxl"]


@pytest.mark.parametrize("name", SLOW_SD1)
def test_it_starts_at_exactly_zero_and_every_encoder_learns(name, run_texts, trained):
    report = run_texts(name)
    train = rows(report, "train")
    assert train[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert train[0]["logit_mean"] == train[0]["logit_std"] == 0.0
    assert train[-1]["logit_std"] > 0
    grown = {
        key.partition(".")[0]
        for key, value in trained["policy"].parameters.items()
        if "lora_B" in key and value.abs().max() > 0
    }
    assert grown >= set(ENCODERS[name])
    frozen = [value for key, value in trained["policy"].parameters.items() if "lora_" not in key]
    assert frozen == []


@pytest.mark.slow
def test_no_caption_is_cached_and_what_is_encoded_is_what_the_cache_would_hold(run_texts, opened, tmp_path):
    run_texts("sdxl", steps=1)
    assert not (tmp_path / "cache" / "prompts").exists()
    family = opened("sdxl").family
    texts = load_texts(family, TrainSettings(text_encoder=True), "cpu")
    assert isinstance(texts, Texts)
    captions = ["a red thing", "", "blue"]
    cached = family.load_encoders("cpu").encode_prompts(captions)
    found = texts.condition(captions * 2, 2)
    for part, value in found.items():
        assert_close(value, torch.cat([cached[part]] * 2), FORWARD)
    assert found.keys() == cached.keys()


@pytest.mark.parametrize("layout", [pytest.param("diffusers", marks=pytest.mark.slow), "kohya"])
@pytest.mark.parametrize("name", ["sd1", pytest.param("sdxl", marks=pytest.mark.slow)])
def test_a_file_loads_back_by_the_pipeline_to_the_trainers_embeddings(
    name, layout, run_texts, trained, opened, model_of
):
    report = run_texts(name, export=["kohya"])
    family, pipeline = opened(name).family, DiffusionPipeline.from_pretrained(model_of(name))
    before = embedded(family, pipeline)
    if layout == "diffusers":
        pipeline.load_lora_weights(report.adapter)
    else:
        pipeline.load_lora_weights(report.adapter / "kohya", weight_name="default.safetensors")
    after = embedded(family, pipeline)
    expected = embedded(family, trained["policy"].texts.encoders.pipe)
    for part, value in after.items():
        assert (value - before[part]).abs().max() > 1e-4
        assert_close(value, expected[part], FORWARD)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.slow
def test_names_in_the_files_are_the_published_ones(name, run_texts):
    report = run_texts(name, steps=1, export=["kohya"])
    layer = "text_model.encoder.layers.0.self_attn.q_proj"
    prefixes = ["lora_te"] if name == "sd1" else ["lora_te1", "lora_te2"]
    ours, kohya = load_file(report.adapter / FILE), load_file(report.adapter / "kohya/default.safetensors")
    for encoder, prefix in zip(ENCODERS[name], prefixes, strict=True):
        assert f"{encoder}.{layer}.lora_A.weight" in ours
        key = f"{prefix}_{layer.replace('.', '_')}"
        assert torch.equal(kohya[f"{key}.lora_up.weight"], ours[f"{encoder}.{layer}.lora_B.weight"])
        assert float(kohya[f"{key}.alpha"]) == 2.0
    assert {key.partition(".")[0] for key in ours} == {"unet", *ENCODERS[name]}


@pytest.mark.slow
def test_pictures_are_drawn_with_the_trained_encoders(run_texts, model_of, tmp_path):
    """Not with the denoiser's part of the adapter alone."""
    report = run_texts("sd1", learning_rate=0.1)
    weights = load_file(report.adapter / FILE)
    (tmp_path / "half").mkdir()
    save_file({k: v for k, v in weights.items() if k.startswith("unet")}, tmp_path / "half" / FILE)

    def picture(lora):
        size = {"width": 16, "height": 16}
        generator = DiffusersGenerator(
            Weights(str(model_of("sd1"))), steps=2, guidance=1.0, lora=str(lora), **size
        )
        generator.setup()
        return np.asarray(generator.generate(["a red thing"], [3])[0], dtype=int)

    assert np.abs(picture(report.adapter) - picture(tmp_path / "half")).max() > 0


@pytest.mark.slow
def test_a_cut_training_goes_on_to_the_same_bytes(run_texts, monkeypatch):
    settings = {"reference_every": 2, "ema": 0.5}
    whole = run_texts("sdxl", "whole", **settings)
    step = loop_module.timed_step

    def cut(job, state, observer):
        if state.step == 2:
            raise KeyboardInterrupt
        return step(job, state, observer)

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "timed_step", cut)
        with pytest.raises(KeyboardInterrupt):
            run_texts("sdxl", "cut", **settings)
    resumed = run_texts("sdxl", "cut", **settings)
    assert (resumed.adapter / FILE).read_bytes() == (whole.adapter / FILE).read_bytes()


@pytest.mark.slow
def test_the_split_into_forward_passes_changes_nothing(run_texts):
    settings = {"learning_rate": 1e-3, "steps": 2}
    one = load_file(run_texts("sd1", "one", batch_size=4, **settings).adapter / FILE)
    two = load_file(run_texts("sd1", "two", batch_size=1, **settings).adapter / FILE)
    for name, value in one.items():  # AdamW makes a move of 1e-3 of any slope, also of rounding
        assert (two[name] - value).norm() <= 1e-3 * value.norm() + 1e-5, name


@pytest.mark.slow
def test_kept_reference_errors_hold(run_texts):
    """They are of the encoders without adapters, and so are those of a training that keeps none."""
    settings = {"reference_draws": 1, "caption_dropout": 0.0}
    kept = rows(run_texts("sd1", "kept", **settings), "train")
    assert kept[0]["logit_std"] < 1e-2
    assert kept[-1]["logit_std"] > 0


@pytest.mark.slow
def test_a_training_goes_on_from_an_adapter_with_encoders_and_from_no_part_of_one(run_texts):
    first = run_texts("sd1", "first", learning_rate=0.1)
    start = Start(adapter=first.adapter, reference=first.adapter, identity="s")
    second = run_texts("sd1", "second", start=start, steps=1)
    assert rows(second, "train")[0]["logit_std"] == 0.0
    ahead = run_texts("sd1", "ahead", start=Start(first.adapter, None, "t"), steps=1)
    assert rows(ahead, "train")[0]["logit_std"] > 0
    with pytest.raises(UsageError, match="also holds weights of text encoders"):
        run_texts("sd1", "less", start=start, text_encoder=False)
    plain = run_texts("sd1", "plain", text_encoder=False, steps=1)
    with pytest.raises(UsageError, match="no weights for text_encoder"):
        run_texts("sd1", "more", start=Start(plain.adapter, plain.adapter, "u"))


def test_what_does_not_go_together_is_refused_at_once(run_texts):
    with pytest.raises(SettingsError) as told:
        run_texts("sd1", full=True, export=["merged"], group_size=3)
    assert "train.full" in str(told.value)
    assert "merged" in str(told.value)
    assert "group_size" in str(told.value)
    with pytest.raises(SettingsError, match=r"train\.text_encoder: True does not go with ddpo"):
        composed_online(TrainSettings(method="ddpo", rounds=1, text_encoder=True), OnlineSettings())


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_family_without_them_is_refused_before_a_model_loads(name, run_texts, opened, monkeypatch):
    kind = type(opened(name).family)
    monkeypatch.setattr(kind, "load_encoders", lambda *given: pytest.fail("loaded"))
    with pytest.raises(UsageError, match="text encoders of a"):
        run_texts(name)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.slow
def test_a_plan_counts_the_encoders(name, model_of, tmp_path, opened):
    def of(on):
        settings = TrainSettings(rank=2, text_encoder=on, resolution=16)
        return plan(settings, dataset=tmp_path, model=str(model_of(name)), revision=None)

    with_texts, without = of(True), of(False)
    assert with_texts.flops_per_pair > without.flops_per_pair
    family, settings = opened(name).family, TrainSettings(rank=2, text_encoder=True)
    texts = load_texts(family, settings, "cpu")
    policy = build_policy(family.load_denoiser(), settings, family.lora_targets, 0, "cpu", texts)
    assert with_texts.trained == sum(value.numel() for value in policy.parameters.values())
    assert with_texts.parameters == sum(v.numel() for module in policy.modules for v in module.parameters())


def test_off_is_the_training_it_was(run_texts):
    plain = run_texts("sd1", text_encoder=False, steps=1)
    told = json.loads((plain.adapter.parent / "settings.json").read_text())["identity"]
    assert "text_encoder" not in told
    assert {key.partition(".")[0] for key in load_file(plain.adapter / FILE)} == {"unet"}

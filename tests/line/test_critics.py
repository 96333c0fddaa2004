"""Which critic a run asks: short names, folders that cannot load, and what stands in a row's key."""

import json

import pytest

from rpo_cli import registry
from rpo_cli.errors import RpoError, UsageError
from rpo_cli.line.preflight import preflight
from rpo_cli.line.session import open_line
from rpo_cli.line.work.critics import (
    attribute_of,
    backend_options,
    critic_identity,
    reward_identity,
    reward_options,
)
from rpo_cli.line.work.critique import critique_work
from rpo_cli.resolve import resolve
from rpo_cli.shapes.preset import MODELS

COMMIT = "0" * 40


@pytest.mark.parametrize("name", registry.critic_models)
def test_a_short_name_stands_for_a_hub_id(name, tmp_path):
    model = attribute_of(registry.critic_models[name])
    line = open_line(tmp_path / "run", {"critique.critic": name, "critique.revision": COMMIT})
    assert critic_identity(line).ref == model.ref
    assert (model.license, model.gigabytes > 0, model.backend in registry.critics) == (
        model.license,
        True,
        True,
    )


def test_a_folder_in_llava_nexts_layout_is_refused_with_a_model_that_loads(tmp_path):
    folder = tmp_path / "llava-critic-7b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlavaQwenForCausalLM"]}))
    (folder / "model.safetensors").write_bytes(b"")
    line = open_line(tmp_path / "run", {"critique.critic": str(folder)})
    with pytest.raises(UsageError, match="layout of LLaVA-NeXT") as caught:
        critic_identity(line)
    assert "llava-hf/llava-onevision-qwen2-7b-ov-hf" in caught.value.hint


def test_how_a_server_is_reached_makes_no_row_wanted_again_and_what_it_computes_with_does(tmp_path):
    def group(**options):
        named = {f"critique.{key}": value for key, value in options.items()}
        return critique_work(open_line(tmp_path / "run", named, preset="shapes")).group

    plain = group()
    assert plain == group(in_flight=3, timeout=9.0, tries=2, server_seconds=5.0, server_python="/p")
    assert plain != group(server_args=("--quantization=fp8",))
    assert plain != group(backend="vllm-server")


def test_the_default_settings_of_a_row_name_nothing_of_servers(tmp_path):
    line = open_line(tmp_path / "run", preset="shapes")
    said = json.loads(critique_work(line).settings)
    assert not {"critic_url", "server_args", "in_flight", "timeout", "tries", "key_variable"} & said.keys()
    assert set(json.loads(reward_identity(line, "vqascore", str(MODELS / "critic"))[1])) == {
        *("reward", "model", "dtype", "template")
    }


def test_the_gpu_preset_asks_qwen3_vl_behind_a_server_of_ours(tmp_path):
    settings = resolve({}, preset="gpu").settings
    assert (settings.critique.backend, settings.critique.critic) == (
        "vllm-server",
        "Qwen/Qwen3-VL-8B-Instruct",
    )
    line = open_line(tmp_path / "run", {}, preset="gpu")
    assert backend_options(line, "vllm-server")["arguments"] == ("--max-model-len=16384",)


def test_a_critic_url_alone_chooses_the_backend():
    settings = resolve({"critique.critic_url": ("http://h/v1",)}).settings
    assert settings.critique.backend == "openai"
    both = resolve({"critique.critic_url": ("http://h/v1",), "critique.backend": "transformers"}).settings
    assert both.critique.backend == "transformers"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"critique.critic_url": ("http://u:p@h/v1",)}, "must hold no user name"),
        ({"critique.critic_url": ("h:8000",)}, "not an http:// or https:// URL"),
        (
            {"critique.critic_url": ("http://h/v1",), "critique.key_variable": "NOT_SET_7"},
            "NOT_SET_7 is not set",
        ),
        ({"critique.backend": "vllm-server", "critique.server_python": "/no/python"}, "no such program"),
    ],
)
def test_what_is_wrong_with_a_server_is_told_at_the_door(options, what, tmp_path):
    line = open_line(tmp_path / "run", {"critique.critic": "served", **options}, preset="shapes")
    with pytest.raises(RpoError, match=what):
        preflight(line, ["critique"])


def test_a_served_reward_of_a_training_that_samples_reaches_its_server(tmp_path):
    options = {
        "score.rewards": ("vqascore=stand-in",),
        "score.backend": "openai",
        "critique.critic_url": ("http://h/v1",),
    }
    line = open_line(tmp_path / "run", options, preset="shapes")
    assert reward_options(line, "vqascore")["server"]["urls"] == ("http://h/v1",)
    assert reward_options(line, "clip") == {}

"""A LoRA at the door: which file it is, what its key is, and what is refused before a model loads."""

import json
from hashlib import sha256

import pytest
import torch
from safetensors.torch import save_file

from rpo_cli import open_line
from rpo_cli.adapters import is_adapter
from rpo_cli.backends import loading
from rpo_cli.errors import UsageError
from rpo_cli.line.evaluation.models import contenders
from rpo_cli.line.work import model_checks, models
from rpo_cli.shapes.manifest import MODELS

LAYER, WIDTH = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q", 120


@pytest.fixture(autouse=True)
def nothing_loads(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loading, "load_pipeline", None)


def lora(file, prefix="unet.", width=WIDTH):
    file.parent.mkdir(parents=True, exist_ok=True)
    layer = f"{prefix}{LAYER}"
    save_file(
        {f"{layer}.lora_A.weight": torch.ones(4, width), f"{layer}.lora_B.weight": torch.ones(WIDTH, 4)},
        file,
    )
    return file


def line(tmp_path, ref):
    given = {"generate.generator": str(MODELS / "text-to-image"), "generate.lora": str(ref)}
    return open_line(tmp_path / "run", given, preset="shapes")


@pytest.mark.parametrize("prefix", ["unet.", "transformer.", "diffusion_model.", "base_model.model.", ""])
def test_a_lora_of_this_model_passes_under_every_naming(tmp_path, prefix):
    model_checks.check_generator(line(tmp_path, lora(tmp_path / "style_v10.safetensors", prefix)))


@pytest.mark.parametrize("prefix", ["foo.bar.", "unet.nothing.", "lora_unet_nothing_"])
def test_one_of_which_nothing_matches_is_refused_by_its_names(tmp_path, prefix):
    file = lora(tmp_path / "x" / "style.safetensors", prefix)
    for ref in (file, file.parent):
        with pytest.raises(UsageError, match="none of its 1 layers") as caught:
            model_checks.check_generator(line(tmp_path, ref))
        assert prefix in caught.value.message.partition("names begin with ")[2]


def test_one_of_another_models_sizes_is_refused(tmp_path):
    with pytest.raises(UsageError, match=f"another shape than in .*{LAYER}"):
        model_checks.check_generator(line(tmp_path, lora(tmp_path / "x.safetensors", width=64)))


def test_names_of_a_models_original_code_are_left_to_its_loader(tmp_path):
    file = lora(tmp_path / "x.safetensors", "lora_unet_input_blocks_4_1_")

    model_checks.check_generator(line(tmp_path, file))


def test_a_broken_file_and_one_without_a_lora_are_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0[1, 2]  ")
    with pytest.raises(UsageError, match="cannot be read"):
        model_checks.check_generator(line(tmp_path, tmp_path / "broken.safetensors"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no LoRA"):
        model_checks.check_generator(line(tmp_path, tmp_path / "empty"))
    save_file({"unet.conv_in.weight": torch.ones(4, 4)}, tmp_path / "weights.safetensors")
    with pytest.raises(UsageError, match=r"holds no layer of a LoRA \(first tensor: unet.conv_in.weight"):
        model_checks.check_generator(line(tmp_path, tmp_path / "weights.safetensors"))


def test_a_file_that_was_not_wholly_downloaded_is_refused_with_its_size(tmp_path):
    whole = lora(tmp_path / "x.safetensors").read_bytes()
    for bytes_there in (len(whole) - 1, len(whole) // 2):
        (tmp_path / "x.safetensors").write_bytes(whole[:bytes_there])
        told = f"cut short: {bytes_there:,} of {len(whole):,} bytes"
        with pytest.raises(UsageError, match=told):
            model_checks.check_generator(line(tmp_path, tmp_path / "x.safetensors"))


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (b'{"lora_alpha": "big"}', "lora_alpha is 'big'"),
        (b'{"lora_alpha": NaN}', "lora_alpha is nan"),
        (b'{"alpha_pattern": {"(": 2}}', "alpha_pattern: missing"),
        (b'{"alpha_pattern": [2]}', "alpha_pattern is"),
        (b"[]", "no table"),
        (b'{"r": "\xe9"}', "utf-8"),
    ],
)
def test_a_configuration_that_tells_no_scale_is_refused_at_the_door(tmp_path, config, told):
    lora(tmp_path / "a" / "adapter_model.safetensors")
    (tmp_path / "a" / "adapter_config.json").write_bytes(config)
    with pytest.raises(UsageError) as caught:
        model_checks.check_generator(line(tmp_path, tmp_path / "a"))
    assert "adapter_config.json" in caught.value.message
    assert told in caught.value.message


def test_a_folder_with_a_pickle_is_refused_with_its_conversion(tmp_path):
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "pytorch_lora_weights.bin").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        model_checks.check_generator(line(tmp_path, tmp_path / "a b"))
    assert f"rpo convert '{tmp_path}/a b/pytorch_lora_weights.bin'" in caught.value.hint


def test_the_alpha_beside_a_file_is_part_of_its_key(tmp_path):
    file = lora(tmp_path / "a" / "v1.safetensors")
    alone = models.adapter_of(line(tmp_path, file)).revision
    keys = {alone}
    for alpha in (4, 8):
        (file.parent / "adapter_config.json").write_text(json.dumps({"lora_alpha": alpha}))
        keys.add(models.adapter_of(line(tmp_path, file)).revision)

    assert alone == sha256(file.read_bytes()).hexdigest()
    assert len(keys) == 3


def test_files_beside_the_one_that_is_taken_are_counted(tmp_path):
    for name in ("pytorch_lora_weights", "v1", "v2"):
        lora(tmp_path / "a" / f"{name}.safetensors")
    told = []
    opened = line(tmp_path, tmp_path / "a")
    opened.observer.note = told.append
    model_checks.check_generator(opened)

    assert any("pytorch_lora_weights.safetensors is the LoRA; 2 other" in text for text in told)


@pytest.mark.parametrize(
    "key", ["a.lokr_w1_a", "a.hada_w2_b", "a.oft_blocks", "a.diff", "a.lora_up.weight"]
)
def test_an_adapter_of_any_kind_is_told_from_a_model(tmp_path, key):
    save_file({key: torch.ones(2)}, tmp_path / "x.safetensors")
    assert is_adapter(tmp_path / "x.safetensors")


@pytest.mark.parametrize("key", ["a.weight", "a.diffusion.weight", "lora.weight", "differ"])
def test_a_models_weights_are_no_adapter(tmp_path, key):
    save_file({key: torch.ones(2)}, tmp_path / "x.safetensors")
    assert not is_adapter(tmp_path / "x.safetensors")


def test_a_file_of_any_name_is_known_by_its_content_alone_or_in_its_folder(tmp_path):
    file = lora(tmp_path / "a" / "styleLora_v10.safetensors")
    content = sha256(file.read_bytes()).hexdigest()

    assert models.adapter_of(line(tmp_path, file)).revision == content
    assert models.adapter_of(line(tmp_path, file.parent)).revision == content
    moved = file.rename(lora(tmp_path / "b" / "other.safetensors"))
    assert models.adapter_of(line(tmp_path, moved)).revision == content


def test_a_folder_of_diffusers_name_keeps_the_key_that_it_had(tmp_path):
    """SHA-256 over names and contents, as rows of earlier versions have it."""
    file = lora(tmp_path / "a" / "pytorch_lora_weights.safetensors")
    text = f"pytorch_lora_weights.safetensors\0{sha256(file.read_bytes()).hexdigest()}\n"

    assert models.adapter_of(line(tmp_path, file.parent)).revision == sha256(text.encode()).hexdigest()


def test_an_evaluation_takes_a_lora_or_a_model_in_a_file_of_any_name(stand, tmp_path):
    style = lora(tmp_path / "style" / "v10.safetensors")
    peft = lora(tmp_path / "peft" / "adapter_model.safetensors", "base_model.model.")
    (peft.parent / "adapter_config.json").write_text(json.dumps({"lora_alpha": 4}))
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(1)}, tmp_path / "sd.safetensors")
    asked = [style, style.parent, peft.parent, tmp_path / "sd.safetensors"]
    found, _ = contenders(stand.line(), [str(ref) for ref in asked])

    assert [(model.label, *model.options.items()) for model in found] == [
        ("v10", ("generate.lora", str(style))),
        ("style", ("generate.lora", str(style.parent))),
        ("peft", ("generate.lora", str(peft.parent))),
        ("sd", ("generate.generator", str(tmp_path / "sd.safetensors"))),
    ]


def test_an_evaluation_of_a_folder_with_several_asks_for_one(stand, tmp_path):
    lora(tmp_path / "many" / "a.safetensors"), lora(tmp_path / "many" / "b.safetensors")

    with pytest.raises(UsageError, match=r"a\.safetensors, b\.safetensors"):
        contenders(stand.line(), [str(tmp_path / "many")])

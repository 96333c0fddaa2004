"""A written LoRA is read by diffusers' own loader and compared; a file that differs is refused."""

import re

import pytest
import torch
from diffusers import UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from rpo_cli.config import TrainSettings
from rpo_cli.errors import RpoError
from rpo_cli.train.export.layouts import write_denoiser
from rpo_cli.train.export.lora_files import (
    check_lora,
    diffusers_weights,
    kohya_weights,
    merged_weights,
    original_name,
)
from rpo_cli.train.families.unet import StableDiffusion1
from rpo_cli.train.policy import build_policy
from tests.closeness import assert_close

FILE = "lora.safetensors"


@pytest.fixture
def family(model) -> StableDiffusion1:
    return StableDiffusion1(str(model))


@pytest.fixture
def policy(family):
    """A policy whose adapter is not nothing."""
    settings = TrainSettings(rank=4)
    made = build_policy(family.load_denoiser(), settings, family.lora_targets, 0, "cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters.values():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))
    return made


@pytest.fixture(params=["diffusers", "kohya"])
def written(request, policy, tmp_path):
    """Folder of the LoRA in either layout."""
    diffusers = request.param == "diffusers"
    weights = (
        diffusers_weights(policy.unet, "unet") if diffusers else kohya_weights(policy.unet, "diffusers")
    )
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / FILE)
    return tmp_path


def rewrite(folder, change) -> None:
    weights = load_file(folder / FILE)
    change(weights)
    (folder / FILE).unlink()
    save_file(weights, folder / FILE)


def test_a_whole_file_passes_and_leaves_the_policy_as_it_was(written, policy, family):
    before = {name: value.clone() for name, value in policy.unet.state_dict().items()}
    check_lora(written, FILE, policy.unet, family)
    after = policy.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert policy.unet.active_adapters() == ["default"]


def test_a_file_without_one_layer_is_refused(written, policy, family):
    def drop(weights):
        layer = next(iter(sorted(weights))).rsplit(".lora", 1)[0].removesuffix(".alpha")
        for name in [name for name in weights if name.startswith(layer + ".")]:
            del weights[name]

    rewrite(written, drop)
    with pytest.raises(RpoError, match="differs from what was trained in 1 layers"):
        check_lora(written, FILE, policy.unet, family)
    assert policy.unet.active_adapters() == ["default"]


def test_the_all_zero_file_of_diffusers_resume_is_refused(written, policy, family):
    rewrite(written, lambda weights: [value.zero_() for value in weights.values()])
    with pytest.raises(RpoError, match="differs from what was trained"):
        check_lora(written, FILE, policy.unet, family)


def test_a_wrong_alpha_is_refused(policy, family, tmp_path):
    weights = kohya_weights(policy.unet, "diffusers")
    save_file(
        {n: v / 2 if n.endswith("alpha") else v.contiguous() for n, v in weights.items()}, tmp_path / FILE
    )
    with pytest.raises(RpoError, match="differs from what was trained"):
        check_lora(tmp_path, FILE, policy.unet, family)


def test_half_precision_bases_keep_their_adapters_tolerance(family, tmp_path):
    settings = TrainSettings(rank=4, dtype="bfloat16")
    policy = build_policy(family.load_denoiser(torch.bfloat16), settings, family.lora_targets, 0, "cpu")
    for parameter in policy.parameters.values():
        parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    save_file(diffusers_weights(policy.unet, "unet"), tmp_path / FILE)
    check_lora(tmp_path, FILE, policy.unet, family)


def test_merged_weights_are_base_plus_up_times_down(policy, family):
    base, merged = family.load_denoiser().state_dict(), merged_weights(policy.unet)
    assert merged.keys() == base.keys()
    name = next(name for name in base if name.endswith("attn1.to_q.weight"))
    layer = name.removesuffix(".weight")
    down = policy.parameters[f"{layer}.lora_A.default.weight"]
    up = policy.parameters[f"{layer}.lora_B.default.weight"]
    assert_close(merged[name], base[name] + up @ down)
    assert torch.equal(merged["conv_in.weight"], base["conv_in.weight"])


def test_a_denoiser_folder_that_reads_back_otherwise_is_refused(policy, tmp_path):
    weights = merged_weights(policy.unet)
    del weights["conv_in.bias"]  # from_pretrained fills it with chance
    with pytest.raises(RpoError, match=r"1 tensors, e\.g\. conv_in\.bias"):
        write_denoiser(tmp_path, policy.unet, weights, {})


@pytest.mark.parametrize(
    ("diffusers", "original"),
    [
        ("down_blocks.1.attentions.0.proj_in", "input_blocks.4.1.proj_in"),
        (
            "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_k",
            "input_blocks.8.1.transformer_blocks.9.attn2.to_k",
        ),
        (
            "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
            "middle_block.1.transformer_blocks.0.attn1.to_q",
        ),
        (
            "up_blocks.0.attentions.2.transformer_blocks.0.attn1.to_out.0",
            "output_blocks.2.1.transformer_blocks.0.attn1.to_out.0",
        ),
        (
            "up_blocks.1.attentions.1.transformer_blocks.1.attn1.to_v",
            "output_blocks.4.1.transformer_blocks.1.attn1.to_v",
        ),
    ],
)
def test_sdxls_modules_have_their_original_names(diffusers, original):
    assert original_name(diffusers, layers_per_block=2) == original


def test_the_kohya_names_of_the_real_sdxl_lie_in_the_blocks_that_have_attention():
    """70 transformer blocks of two attentions with four projections; two, three and none a level."""
    unet = sdxl_without_weights()
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    weights = kohya_weights(unet, "original")
    assert len(weights) == 3 * 70 * 2 * 4
    blocks = {
        re.match(r"lora_unet_((in|out)put_blocks_\d+_1|middle_block_1)_", name)[1] for name in weights
    }
    assert blocks == {
        *(f"input_blocks_{index}_1" for index in (4, 5, 7, 8)),
        "middle_block_1",
        *(f"output_blocks_{index}_1" for index in range(6)),
    }
    assert "lora_unet_input_blocks_8_1_transformer_blocks_9_attn2_to_out_0.lora_up.weight" in weights


def sdxl_without_weights() -> UNet2DConditionModel:
    """The UNet of SDXL base 1.0 on the meta device, from its published configuration."""
    with torch.device("meta"):
        return UNet2DConditionModel(
            sample_size=128,
            block_out_channels=(320, 640, 1280),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10),
            attention_head_dim=(5, 10, 20),
            cross_attention_dim=2048,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816,
        )


def test_a_kohya_file_names_module_alpha_and_both_halves(policy):
    weights = kohya_weights(policy.unet, "diffusers")
    module = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_out_0"
    assert weights[f"{module}.alpha"].item() == 4.0
    assert weights[f"{module}.lora_down.weight"].shape[0] == 4
    assert weights[f"{module}.lora_up.weight"].shape[1] == 4
    assert {name.rsplit(".", 1)[0].split(".")[0].split("_")[1] for name in weights} == {"unet"}

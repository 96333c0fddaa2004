"""A trained adapter as the files that others read: diffusers' layout, kohya's, or merged into the base.

kohya's names are those of ComfyUI and A1111 too. For SD 1.x and 2.x they are diffusers' module names with
underscores; for SDXL those of the original code (input_blocks, middle_block, output_blocks), because kohya
trains SDXL on it (sd-scripts, library/sdxl_model_util.py). ComfyUI reads diffusers' own layout of SD3 and
FLUX, so these need no second one.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from rpo_cli.train.families.folder import KohyaNames
from rpo_cli.train.policy import parameter_name

ADAPTER = "default"
NO_TEXTS: Mapping[str, Any] = MappingProxyType({})


def adapted(denoiser: Any) -> dict[str, Any]:
    """The layers that carry an adapter, by name."""
    return {name: layer for name, layer in denoiser.named_modules() if isinstance(layer, BaseTunerLayer)}


def delta(layer: Any, adapter: str) -> Tensor:
    """What an adapter adds to its layer's weight, float32."""
    found: Tensor = layer.get_delta_weight(adapter).detach().float()
    return found


def diffusers_weights(
    denoiser: Any, component: str, texts: Mapping[str, Any] = NO_TEXTS
) -> dict[str, Tensor]:
    """Names that the pipelines' `load_lora_weights` expects, float32. Alpha equals the rank.

    Args:
        texts: the text encoders that carry an adapter too, by their names in the pipeline.
    """
    layers = get_peft_model_state_dict(denoiser, adapter_name=ADAPTER)
    found = {f"{component}.{name}": value.float() for name, value in layers.items()}
    for encoder, module in texts.items():
        layers = get_peft_model_state_dict(module, adapter_name=ADAPTER)
        found |= {parameter_name(encoder, name): value.float() for name, value in layers.items()}
    return found


def kohya_weights(
    denoiser: Any, names: KohyaNames, texts: Mapping[str, Any] = NO_TEXTS
) -> dict[str, Tensor]:
    """lora_unet_<module>.lora_down.weight, .lora_up.weight and .alpha, float32.

    Those of a text encoder begin with lora_te, of SDXL's two with lora_te1 and lora_te2 (sd-scripts,
    networks/lora.py).
    """
    layers = {}
    for name, layer in adapted(denoiser).items():
        base = original_name(name, denoiser.config.layers_per_block) if names == "original" else name
        layers[f"lora_unet_{base}"] = layer
    for place, (encoder, module) in enumerate(texts.items(), start=1):
        prefix = "lora_te" if names == "diffusers" else f"lora_te{place}"
        inner = {parameter_name(encoder, name): layer for name, layer in adapted(module).items()}
        layers |= {name.replace(encoder, prefix, 1): layer for name, layer in inner.items()}
    found = {}
    for base, layer in layers.items():
        key = base.replace(".", "_")
        found[f"{key}.lora_down.weight"] = layer.lora_A[ADAPTER].weight.detach().float()
        found[f"{key}.lora_up.weight"] = layer.lora_B[ADAPTER].weight.detach().float()
        found[f"{key}.alpha"] = torch.tensor(float(layer.lora_alpha[ADAPTER]))
    return found


def kohya_metadata(rank: int) -> dict[str, str]:
    """What kohya's own trainer writes about the network."""
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(rank),
    }


def original_name(name: str, layers_per_block: int) -> str:
    """The name of an attention module of diffusers' UNet in the original SDXL code.

    Every level of the encoder holds `layers_per_block` blocks and a downsampler, every level of the decoder
    one block more and an upsampler inside its last; attention is the second part of a block.
    """
    per_level = layers_per_block + 1
    if found := re.match(r"(down|up)_blocks\.(\d+)\.attentions\.(\d+)\.(.*)", name):
        side, level, place = found[1], int(found[2]), int(found[3])
        index = level * per_level + place
        return (
            f"input_blocks.{index + 1}.1.{found[4]}"
            if side == "down"
            else f"output_blocks.{index}.1.{found[4]}"
        )
    if found := re.match(r"mid_block\.attentions\.0\.(.*)", name):
        return f"middle_block.1.{found[1]}"
    raise ValueError(f"{name}: not an attention module of a UNet")


def merged_weights(denoiser: Any) -> dict[str, Tensor]:
    """The denoiser's weights with the adapter added, under the base model's names and in its precision."""
    layers = adapted(denoiser)
    found = {}
    for name, value in denoiser.state_dict().items():
        if ".lora_" in name:
            continue
        layer, is_adapted, rest = name.partition(".base_layer.")
        if is_adapted and rest == "weight":
            value = (value.float() + delta(layers[layer], ADAPTER)).to(value.dtype)
        found[name.replace(".base_layer.", ".")] = value
    return found

"""A trained adapter as the files that others read: diffusers' layout, kohya's, or merged into the base.

kohya's names are those of ComfyUI and A1111 too. For SD 1.x and 2.x they are diffusers' module names with
underscores; for SDXL those of the original code (input_blocks, middle_block, output_blocks), because kohya
trains SDXL on it (sd-scripts, library/sdxl_model_util.py). ComfyUI reads diffusers' own layout of SD3 and
FLUX, so these need no second one.

What is written is read back with diffusers' own loaders and compared with what was trained.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import diffusers
import torch
from peft import get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from rpo_cli.errors import RpoError, UsageError
from rpo_cli.train.composition import Start
from rpo_cli.train.families.family import Family, KohyaNames, quiet
from rpo_cli.train.policy import Average, Policy, parameter_name
from rpo_cli.train.storage import folder_atomically, holds, write_tensors

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


# of a layer's change, Frobenius norm: loaders may keep an adapter in the base model's precision
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
READ_BACK = "read_back"


def check_lora(
    folder: Path, file: str, denoiser: Any, family: Family, texts: Mapping[str, Any] = NO_TEXTS
) -> None:
    """Load a LoRA file beside the trained adapter and compare what both add to every layer.

    The pipeline's `load_lora_weights` reads it, as a user would; the loaded adapter is removed again.

    Args:
        texts: the text encoders that carry an adapter too, by their names in the pipeline.

    Raises:
        RpoError: a layer was not found or differs.
    """
    try:
        with (
            quiet(),
            unreported(),
            warnings.catch_warnings(),
        ):  # diffusers misses safety checker and text layers
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # two adapters are meant
            pipe = _pipeline_around(denoiser, family, texts)
            pipe.load_lora_weights(folder, weight_name=file, adapter_name=READ_BACK, use_safetensors=True)
        differing = [
            name
            for module in (denoiser, *texts.values())
            for dtype in [module.dtype]  # which diffusers looks up among all weights, each time
            for name, layer in adapted(module).items()
            if _differs(layer, dtype)
        ]
    finally:
        for module in texts.values():
            if READ_BACK in getattr(module, "peft_config", {}):
                module.set_adapter(ADAPTER)
                module.delete_adapter(READ_BACK)
        if READ_BACK in getattr(denoiser, "peft_config", {}):
            denoiser.set_adapter(ADAPTER)
            denoiser.delete_adapters(READ_BACK)
    if differing:
        raise _unlike(folder / file, f"{len(differing)} layers, e.g. {differing[0]}")


@contextmanager
def unreported() -> Iterator[None]:
    """Without transformers' report that the trained adapter is not in the file of the one read back."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def check_denoiser(path: Path, weights: dict[str, torch.Tensor], denoiser: Any) -> None:
    """Compare every tensor of a denoiser's file, and their names with those that its class asks for.

    Raises:
        RpoError: one is missing or differs.
    """
    with torch.device("meta"):
        names = type(denoiser).from_config(denoiser.config).state_dict().keys()
    if differing := sorted(names ^ weights.keys()) or holds(path, weights):
        raise _unlike(path, f"{len(differing)} tensors, e.g. {differing[0]}")


def _differs(layer: Any, dtype: torch.dtype) -> bool:
    if READ_BACK not in layer.lora_A:
        return True
    trained, loaded = delta(layer, ADAPTER), delta(layer, READ_BACK)
    return bool((trained - loaded).norm() > TOLERANCE[dtype] * trained.norm())


def _pipeline_around(denoiser: Any, family: Family, texts: Mapping[str, Any]) -> Any:
    """The family's pipeline with nothing in it but what is trained."""
    loader = getattr(diffusers, family.pipeline)
    parts, _ = loader._get_signature_keys(loader)
    return loader(**{**dict.fromkeys(parts), family.component: denoiser, **texts})


def _unlike(path: Path, what: str) -> RpoError:
    return RpoError(
        f"{path}: read back, it differs from what was trained in {what}",
        "report this with the model and the versions of diffusers and peft; the checkpoint is whole",
    )


LORA_FILE = "pytorch_lora_weights.safetensors"
TEXTS = "text_encoder"  # how the names of text encoders' weights begin


def load_adapter(parameters: dict[str, nn.Parameter], family: Family, folder: Path) -> None:
    """Put the weights of an exported LoRA in the place of `parameters`.

    Raises:
        UsageError: the folder holds no LoRA of these layers and this rank, or of text encoders as well.
    """
    path = folder / LORA_FILE
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UsageError(
            f"{path}: cannot be read: {error}", "delete its training to make it again"
        ) from error
    names = {saved_name(name, family) for name in parameters}
    if unread := sorted(name for name in saved if name.startswith(TEXTS) and name not in names):
        raise UsageError(
            f"{path}: also holds weights of text encoders, e.g. {unread[0]}",
            "--text-encoder: go on with all of what the LoRA changes",
        )
    for name, parameter in parameters.items():
        value = saved.get(saved_name(name, family))
        if value is None or value.shape != parameter.shape:
            raise UsageError(
                f"{path}: holds no weights for {name} of this shape",
                "train.rank, train.model and train.text_encoder must be those of the LoRA",
            )
        parameter.data.copy_(value)


def saved_name(parameter: str, family: Family) -> str:
    """The name that a parameter of the policy has in diffusers' LoRA file."""
    name = parameter.replace(".default.", ".")
    return name if parameter.startswith(TEXTS) else f"{family.component}.{name}"


def start_from(policy: Policy, family: Family, start: Start) -> Average | None:
    """Give the policy the weights that a training of a sequence begins with, beside the reference it names.

    A training of its own begins with the model alone: an adapter that adds nothing, and adapters off as the
    reference.

    Returns:
        The reference, when it is another than the model without adapters.
    """
    reference = None
    if start.reference is not None:
        load_adapter(policy.parameters, family, start.reference)
        reference = Average(policy.parameters, 0.0)
    if start.adapter is not None:
        load_adapter(policy.parameters, family, start.adapter)
    return reference


def export_reference(folder: Path, policy: Policy, family: Family, anchor: Average) -> None:
    """Write the reference that moved beside the policy, as a LoRA that pipelines load."""
    applied: AbstractContextManager[None] = anchor.applied()
    with folder_atomically(folder) as temporary, applied:
        weights: dict[str, Tensor] = diffusers_weights(policy.unet, family.component, policy.encoders)
        write_tensors(temporary / LORA_FILE, weights, {})

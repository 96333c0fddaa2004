"""Written files read back with diffusers' own loaders and compared with what was trained."""

import warnings
from pathlib import Path
from typing import Any

import diffusers
import torch

from rpo_cli.errors import RpoError
from rpo_cli.train.families import Family
from rpo_cli.train.families.encoders import quiet
from rpo_cli.train.lora_files import ADAPTER, adapted, delta

# of a layer's change, Frobenius norm: loaders may keep an adapter in the base model's precision
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
READ_BACK = "read_back"


def check_lora(folder: Path, file: str, denoiser: Any, family: Family) -> None:
    """Load a LoRA file beside the trained adapter and compare what both add to every layer.

    The pipeline's `load_lora_weights` reads it, as a user would; the loaded adapter is removed again.

    Raises:
        RpoError: a layer was not found or differs.
    """
    try:
        with quiet(), warnings.catch_warnings():  # diffusers misses safety checker and text layers
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # two adapters are meant
            pipe = _pipeline_around(denoiser, family)
            pipe.load_lora_weights(folder, weight_name=file, adapter_name=READ_BACK, use_safetensors=True)
        differing = [name for name, layer in adapted(denoiser).items() if _differs(layer, denoiser.dtype)]
    finally:
        if READ_BACK in getattr(denoiser, "peft_config", {}):
            denoiser.set_adapter(ADAPTER)
            denoiser.delete_adapters(READ_BACK)
    if differing:
        raise _unlike(folder / file, f"{len(differing)} layers, e.g. {differing[0]}")


def check_denoiser(folder: Path, weights: dict[str, torch.Tensor], denoiser: Any) -> None:
    """Load a denoiser's folder and compare every tensor.

    Raises:
        RpoError: one is missing or differs.
    """
    dtype = next(iter(weights.values())).dtype
    loaded = type(denoiser).from_pretrained(folder, use_safetensors=True, dtype=dtype).state_dict()
    differing = sorted(
        name
        for name in weights.keys() | loaded.keys()
        if name not in weights
        or name not in loaded
        or not torch.equal(loaded[name], weights[name].to(loaded[name].device))
    )
    if differing:
        raise _unlike(folder, f"{len(differing)} tensors, e.g. {differing[0]}")


def _differs(layer: Any, dtype: torch.dtype) -> bool:
    if READ_BACK not in layer.lora_A:
        return True
    trained, loaded = delta(layer, ADAPTER), delta(layer, READ_BACK)
    return bool((trained - loaded).norm() > TOLERANCE[dtype] * trained.norm())


def _pipeline_around(denoiser: Any, family: Family) -> Any:
    """The family's pipeline with nothing but the denoiser in it."""
    loader = getattr(diffusers, family.pipeline)
    parts, _ = loader._get_signature_keys(loader)
    return loader(**{**dict.fromkeys(parts), family.component: denoiser})


def _unlike(path: Path, what: str) -> RpoError:
    return RpoError(
        f"{path}: read back, it differs from what was trained in {what}",
        "report this with the model and the versions of diffusers and peft; the checkpoint is whole",
    )

"""Written files read back with diffusers' own loaders and compared with what was trained."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from transformers.utils import logging as transformers_logging

from rpo_cli.errors import RpoError
from rpo_cli.train.export.lora_files import ADAPTER, NO_TEXTS, adapted, delta
from rpo_cli.train.families.family import Family
from rpo_cli.train.families.folder import quiet

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
            for name, layer in adapted(module).items()
            if _differs(layer, module.dtype)
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
